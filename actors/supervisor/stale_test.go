package supervisor_test

import (
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// What children of an earlier instance still say, and permits that an earlier instance asked for, mean nothing.
func TestStaleAnswers(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.cfg.Policy.Budget = time.Hour
		r.network.Remove("h1:22")
		r.start()
		time.Sleep(5 * time.Minute)
		pid := r.system.NewLocalPID(r.pid.Id + "/host/h1")
		stranger := r.system.NewLocalPID(r.pid.Id + "/host/h1/sftp$1")
		for _, m := range []any{
			messages.DirectoryMade{Dir: "/elsewhere"}, messages.Copied{Sent: 1 << 40}, messages.TunnelOpened{Number: 1, Socket: "/elsewhere"},
			messages.Attached{PayloadPID: 1}, messages.PayloadExited{Exit: messages.Exit{Code: 9}}, messages.SessionCleanedUp{},
		} {
			r.system.Root.RequestWithCustomSender(pid, m, stranger)
		}
		r.sendHost("h1", messages.PermitGranted{Epoch: 1, Kind: messages.PermitHandshake})
		r.send(messages.AskPermit{Host: "h1", Epoch: 1, Kind: messages.PermitUpload}) // nobody would return it
		time.Sleep(time.Second)
		r.network.Add("h1:22", r.sims["h1"])
		result := r.succeeded()
		if result.BytesSent != r.blob.Size || result.Exit == nil || result.Exit.Code != 0 {
			r.Errorf("result %+v", result)
		}
		if n := count[messages.PayloadEnded](r); n != 1 {
			r.Errorf("%d ends of the payload", n)
		}
	})
}

// Bytes that were copied before a loss are in the result all the same.
func TestCarry(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.noCache = true
		r.cfg.Observe = r.onState("OpeningTunnel", func() { r.sims["h1"].Drop() })
		r.start()
		if result := r.succeeded(); result.Attempts != 2 || result.BytesSent < r.blob.Size {
			r.Errorf("result %+v", result)
		}
	})
}
