package inventory

import (
	"strings"
	"testing"
)

// Hosts say for themselves or by their groups whether somebody is to be become there, in our words and in Ansible's.
func TestBecomeFields(t *testing.T) {
	for format, text := range map[Format]string{
		FormatYAML: `
hosts:
  a:
  b: {become: off}
  c: {become_user: "www-data", become_method: doas}
groups:
  all: {become: Yes}
`,
		FormatAnsibleINI: `
a
b ansible_become=no
c ansible_become_user=www-data ansible_become_method=doas
[all:vars]
ansible_become=True
`,
	} {
		inv := mustBuild(t, format, text)
		if len(inv.Warnings) != 0 {
			t.Errorf("%s: warnings %q", format, inv.Warnings)
		}
		for name, want := range map[string]string{"a": "true  ", "b": "false  ", "c": "true www-data doas"} {
			f := inv.Entry(name).Fields
			if got := f[Become].Text + " " + f[BecomeUser].Text + " " + f[BecomeMethod].Text; got != want {
				t.Errorf("%s: %s: %q, want %q", format, name, got, want)
			}
		}
	}
}

func TestBecomeFieldsRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"hosts: {a: {become: perhaps}}":        "neither true nor false",
		"hosts: {a: {become_user: -u}}":        "no name of a user",
		"hosts: {a: {become_user: 'a b'}}":     "no name of a user",
		"hosts: {a: {become_user: '{{ x }}'}}": "Jinja",
		"hosts: {a: {become_method: su}}":      "use sudo or doas",
	} {
		if _, err := build(t, FormatYAML, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	// Ansible has more methods. What nobody uses is no mistake.
	inv := mustBuild(t, FormatAnsibleINI, "a ansible_become_method=runas\n")
	if got := inv.Entry("a").Fields[BecomeMethod].Text; got != "runas" {
		t.Errorf("method %q", got)
	}
}
