package main

import "regexp"

// scene is a line that is typed at an empty screen, what is done while the command runs, and how long its end is looked at.
type scene struct {
	about   string // a comment that is typed before it
	command string
	actions []action
	end     *regexp.Regexp // what is to be seen at its end, or something went wrong
	look    int            // tenths of a second
}

// action waits for something on the screen, looks at it, and presses keys.
type action struct {
	see   *regexp.Regexp // nil: nothing to wait for
	look  int            // tenths of a second, after that
	text  string         // typed then
	press []string       // pressed then
}

// script is the tour.
var script = []scene{{
	about:   "a fleet inside one process: three hosts, nine steps on each, converged together",
	command: "mgmt-remote demo --hosts 3",
	end:     regexp.MustCompile(`nothing of ours left in any sandbox`),
	look:    40,
}, {
	about:   "forty hosts in an inventory; which of them are meant?",
	command: "mgmt-remote hosts -I fleet.yaml -l 'web & !dc2' --fold",
	end:     regexp.MustCompile(`web\[1-20\]`),
	look:    20,
}, {
	about:   "a command on all of them, equal output once",
	command: "mgmt-remote run -I fleet.yaml -o fold --diff -- uname -r",
	end:     regexp.MustCompile(`db3,web`),
	look:    60,
}, {
	about:   "a rollout: two canaries, then waves; seen and steered while it goes on",
	command: "mgmt-remote run -I fleet.yaml --canary 2 --serial 50% --max-failures 5% -- upgrade",
	actions: []action{
		{see: regexp.MustCompile(`wave 1 of`), look: 20, text: "?"},
		{see: regexp.MustCompile(`drop the host`), look: 20, press: []string{"Escape"}},
		{see: regexp.MustCompile(`[3-9]/40 done`), look: 10, text: "o"},
		{see: regexp.MustCompile(`package`), look: 15, press: []string{"Enter"}},
		{see: regexp.MustCompile(`FOR`), look: 8, text: "/"},
		{look: 3, text: "web7"},
		{look: 6, press: []string{"Enter"}},
		{look: 6, press: []string{"Enter"}},
		{see: regexp.MustCompile(`too old`), look: 20, press: []string{"Escape"}},
		{look: 3, press: []string{"Escape"}},
		{look: 1, text: "o"},
	},
	end:  regexp.MustCompile(`no more hosts were begun`),
	look: 60,
}}
