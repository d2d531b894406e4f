//go:build !engine

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
)

// hostVariable is one --var of run. A host's own goes before one for all.
type hostVariable struct {
	text       string // as given
	host       string // "" for all
	key, value string
}

func parseVariables(texts []string) ([]hostVariable, error) {
	all := make([]hostVariable, len(texts))
	for i, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--var %q: not [HOST:]KEY=VALUE", text)
		}
		v := hostVariable{text: text, key: name, value: value}
		if host, key, ok := strings.Cut(name, ":"); ok {
			if v.host, v.key = host, key; host == "" {
				return nil, fmt.Errorf("--var %q: no host before the colon", text)
			}
		}
		if err := payload.ValidVar(v.key); err != nil {
			return nil, fmt.Errorf("--var %q: %w", text, err)
		}
		if slices.ContainsFunc(all[:i], func(o hostVariable) bool { return o.host == v.host && o.key == v.key }) {
			return nil, fmt.Errorf("--var %q: %s is given twice", text, name)
		}
		all[i] = v
	}
	return all, nil
}

// variablesOf returns what a host's template finds in .Vars: what the inventory says, and above it --var.
func variablesOf(all []hostVariable, host *inventory.Entry) map[string]string {
	vars := make(map[string]string, len(host.Vars))
	for key, v := range host.Vars {
		vars[key] = v.Text
	}
	for _, owner := range []string{"", host.Host.Name} {
		for _, v := range all {
			if v.host == owner {
				vars[v.key] = v.value
			}
		}
	}
	return vars
}

// variablesOfAny is for a template whose host is still to be found out: where a variable is given for some hosts only,
// it has the value of one of them.
func variablesOfAny(all []hostVariable) map[string]string {
	vars := map[string]string{}
	for _, v := range all {
		vars[v.key] = v.value
	}
	maps.Copy(vars, variablesOf(all, &inventory.Entry{}))
	return vars
}

// checkVariables finds variables of hosts that there are not.
func checkVariables(all []hostVariable, hosts []*inventory.Entry) error {
	for _, v := range all {
		if v.host != "" && !slices.ContainsFunc(hosts, func(e *inventory.Entry) bool { return e.Host.Name == v.host }) {
			return fmt.Errorf("--var %q: no host of this run is called %s; there are %s", v.text, v.host, someOf(inventory.Names(hosts)))
		}
	}
	return nil
}

// someOf folds names, and leaves out what is too long for a message.
func someOf(names []string) string {
	const most = 5
	pieces := nodeset.FoldList(names)
	if len(pieces) > most {
		return fmt.Sprintf("%s and more, %d hosts together", strings.Join(pieces[:most], ","), len(names))
	}
	return strings.Join(pieces, ",")
}
