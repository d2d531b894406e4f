package payload

import (
	"path"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/mgmt"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// statusFile is what the mgmt payload's status file is called in the session directory.
const statusFile = "converged"

// mgmtSpec completes a spec whose payload is mgmt. It applies what is deployed in the run's etcd; no code is copied.
func (p *Payload) mgmtSpec(spec wire.Spec, r Request, dir string) (wire.Spec, *transfer.Blob, error) {
	if !p.platform.Runs(r.Facts.OS, r.Facts.Arch) {
		return spec, nil, fault.New(fault.Environment, "copy", "mgmt is built for %s, the host is %s/%s", p.platform, r.Facts.OS, r.Facts.Arch).
			WithRemedy("give hosts of another platform a run of their own, with an mgmt for them as --binary")
	}
	program, err := p.blob(p.opts.Binary, path.Base(p.opts.Binary))
	if err != nil {
		return spec, nil, err
	}
	spec.StatusFile = dir + "/" + statusFile
	spec.Argv = append([]string{p.remotePath(r.Base, dir, program)}, mgmt.RunArgs(r.Host, spec.EndpointMark, spec.StatusFile, p.opts.Noop)...)
	// mgmt never removes its temporary prefix; in the session directory it goes with everything else.
	spec.Env = append([]string{"TMPDIR=" + dir}, spec.Env...)
	return spec, program, nil
}
