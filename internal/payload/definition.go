package payload

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
)

// Definition is what a graph payload keeps applied on one host.
type Definition struct {
	File   string            // its name: for messages, and because graph.IsTemplate knows by it how to read Source
	Source []byte            // as it was written
	Vars   map[string]string // what a template finds in .Vars
}

var validVar = regexp.MustCompile(`^[\pL_][\pL\p{Nd}_]*$`)

// ValidVar reports whether {{.Vars.NAME}} can name a variable like that.
func ValidVar(name string) error {
	if !validVar.MatchString(name) {
		return fmt.Errorf("%q can't be a name: use letters, digits and _", name)
	}
	return nil
}

// Check finds what is wrong with a definition as far as that can be known before its host was reached. host and addr are
// what is known of the host; empty where nothing is. Whoever gets the parsed definition may rely on its Remote.
func (d Definition) Check(host, addr string) (*graph.Definition, error) {
	for name := range d.Vars {
		if err := ValidVar(name); err != nil {
			return nil, err
		}
	}
	if !graph.IsTemplate(d.File) {
		return graph.Parse(d.File, d.Source)
	}
	t, err := graph.ParseTemplate(d.File, d.Source)
	if err != nil {
		return nil, err
	}
	return t.Check(graph.Data{Host: host, Addr: addr, Vars: d.Vars})
}

// Definition makes the file that the engine on the request's host follows: a template is rendered with what is known of
// the host now. The fault is of kind Environment and names the place in the definition. What is no template was checked
// by its owner; the engine checks it again.
func (p *Payload) Definition(r Request) (transfer.File, error) {
	d := r.Definition
	if graph.IsTemplate(d.File) {
		rendered, err := d.render(r)
		if err != nil {
			return transfer.File{}, fault.New(fault.Environment, "copy", "%s", inOneLine(err)).WithHost(r.Host).
				WithRemedy("correct the template, or the variables for this host")
		}
		d.Source = rendered
	}
	return transfer.File{Name: DefinitionFile, Data: d.Source, Mode: 0o600}, nil
}

func (d Definition) render(r Request) ([]byte, error) {
	t, err := graph.ParseTemplate(d.File, d.Source)
	if err != nil {
		return nil, err
	}
	def, err := t.Definition(graph.Data{
		Host: r.Host, Run: r.Run, Addr: r.Addr, User: r.Facts.User, Home: r.Facts.Home, OS: r.Facts.OS, Arch: r.Facts.Arch,
		Kernel: r.Facts.Kernel, BootID: r.Facts.BootID, Vars: d.Vars,
	})
	if err != nil {
		return nil, err
	}
	return def.Source, nil
}

// inOneLine leaves out the lines that an error of package graph shows: faults are shown in tables.
func inOneLine(err error) string {
	var e *graph.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	text, _, _ := strings.Cut(e.Problems[0].String(), "\n")
	if more := len(e.Problems) - 1 + e.More; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
