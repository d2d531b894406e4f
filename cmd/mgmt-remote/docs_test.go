package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// cliPage returns docs/cli.md, or the part of it below one heading.
func cliPage(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut("\n"+string(text), "\n# "+heading+"\n")
	if !found {
		t.Fatalf("docs/cli.md has no %q", heading)
	}
	section, _, _ := strings.Cut(after, "\n# ")
	return section
}

// The exit codes of the page, of the program and of the help of run are the same.
func TestExitCodesAreDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "exit") && len(spec.Values) > 0 {
			codes = append(codes, spec.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	slices.Sort(codes)
	_, help, _ := strings.Cut(newRunCommand().Long, "Exit codes:")
	for where, text := range map[string][][]string{
		"docs/cli.md":     regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(cliPage(t, "Exit codes"), -1),
		"the help of run": regexp.MustCompile(`(\d+) [a-z]`).FindAllStringSubmatch(help, -1),
	} {
		var told []string
		for _, m := range text {
			told = append(told, m[1])
		}
		slices.Sort(told)
		if !slices.Equal(told, codes) {
			t.Errorf("%s has %q, the program has %q", where, told, codes)
		}
	}
}

// The page names all commands that help names, and no others.
func TestCommandsAreDocumented(t *testing.T) {
	var commands []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Parent().Name() == "completion" {
				continue
			}
			commands = append(commands, strings.TrimPrefix(sub.CommandPath(), "mgmt-remote "))
			walk(sub)
		}
	}
	walk(newRootCommand())
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z -]+)` \\|").FindAllStringSubmatch(cliPage(t, "Commands"), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(commands)
	slices.Sort(documented)
	if !slices.Equal(documented, commands) {
		t.Errorf("docs/cli.md has %q\nthe program has %q", documented, commands)
	}
}

// onHosts are the packages that run on hosts, whose environment is another one.
var onHosts = []string{"shim", "engine", "world"}

// The page names all variables that the program reads.
func TestEnvironmentIsDocumented(t *testing.T) {
	page := cliPage(t, "Environment")
	read := regexp.MustCompile(`(?i:getenv|lookupenv)\("([A-Z_]+)"\)`)
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (slices.Contains(onHosts, d.Name()) || d.Name() == "test" || d.Name() == ".git") {
			return fs.SkipDir // git changes its own at any moment
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range read.FindAllStringSubmatch(string(source), -1) {
			if found++; !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("docs/cli.md does not name %s, which %s reads", m[1], path)
			}
		}
		return err
	})
	if err != nil || found < 3 {
		t.Errorf("%v, %d variables found", err, found)
	}
}
