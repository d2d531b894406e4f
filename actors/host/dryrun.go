package host

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Words of a plan for what has another name on each host or in each run.
const (
	sessionWord  = "SESSION"
	endpointWord = "ENDPOINT"
)

// planned tells what would be done on the host, after the probe decided that the next state is this.
func (a *hostActor) planned(next lifecycle.State) messages.HostPlanned {
	facts, plan := a.facts.facts, a.facts.plan
	e := messages.HostPlanned{
		At: time.Now(), Host: a.cfg.Host.Name, Platform: facts.OS + "/" + facts.Arch, User: facts.User, Action: actionOf(next),
		Base: a.facts.record.Base, Exists: facts.BaseExists, Copies: []messages.PlannedCopy{}, Command: []string{},
	}
	if next != lifecycle.MakingDirectory {
		return e
	}
	e.Tunnel = messages.TunnelForward.String()
	if a.cfg.Become.User != "" {
		e.Tunnel = messages.TunnelStdio.String() // sockets of the server belong to who logs in
	}
	cached := map[string]bool{}
	for _, key := range plan.Copy.Cached {
		cached[key] = !plan.Copy.NoCache
	}
	short := []string{plan.Dir + "/", sessionWord + "/", plan.Dir, sessionWord}
	for _, b := range plan.Copy.Blobs {
		e.Copies = append(e.Copies, messages.PlannedCopy{Name: b.Name, Bytes: b.Size, Cached: cached[b.Key()]})
		short = append([]string{plan.Copy.Base + "/" + probe.CacheDir + "/" + b.Key(), b.Name, plan.Dir + "/bin/" + b.Name, b.Name}, short...)
	}
	for _, f := range plan.Copy.Files {
		if f.Name != wire.SpecFile {
			e.Copies = append(e.Copies, messages.PlannedCopy{Name: f.Name, Bytes: int64(len(f.Data))})
			continue
		}
		var spec wire.Spec
		if err := json.Unmarshal(f.Data, &spec); err != nil {
			continue // it is of our own making
		}
		words := strings.NewReplacer(append(short, spec.EndpointMark, endpointWord)...)
		for _, arg := range spec.Argv {
			e.Command = append(e.Command, words.Replace(arg))
		}
	}
	e.Cache = !plan.Copy.NoCache
	return e
}

// actionOf says in a word what a state after the probe leads to.
func actionOf(next lifecycle.State) string {
	switch next {
	case lifecycle.MakingDirectory:
		return "start"
	case lifecycle.Attaching:
		return "attach"
	case lifecycle.CleaningUp:
		return "clean up"
	}
	return "nothing"
}
