// Package sftp is the actor of steps 2, 3 and, where no shim is alive to do it, 8: the session directory, the copies
// in it and in the cache, and their removal. While a payload runs it replaces the definition that the payload follows.
//
// It lives at most as long as the connection in its props, answers only to its parent, the host actor, and never
// touches anything outside the base directory. A failure is a panic with a fault.
package sftp

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/internal/worker"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// progressEvery bounds how often CopyProgressed is sent.
const progressEvery = 250 * time.Millisecond

// Config is what one sftp actor is for. The connection is the host actor's, which closes it.
type Config struct {
	Conn    transfer.Conn
	Session transfer.Session
	Copy    transfer.CopyRequest // Progress is the actor's own
	Limit   time.Duration        // how long the copy of a definition may take
}

// Props makes the actor's props.
func Props(cfg Config) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &sftpActor{cfg: cfg} }, actor.WithReceiverMiddleware(restart.Capture))
}

type sftpActor struct {
	cfg    Config
	work   *worker.Group
	client transfer.Stager // open between steps 2 and 3
}

// made is what step 2's work returns. It is closed by the worker group where nobody takes it any more.
type made struct {
	client transfer.Stager
	dir    string
}

func (m made) Close() error { return m.client.Close() }

func (a *sftpActor) Receive(ctx actor.Context) {
	message, ok := worker.Receive(ctx, &a.work, a.release)
	if !ok {
		return
	}
	switch m := message.(type) {
	case messages.MakeDirectory:
		a.work.Go(a.makeDirectory)
	case made:
		a.client = m.client
		ctx.Request(ctx.Parent(), messages.DirectoryMade{Dir: m.dir})
	case messages.Copy:
		client := a.client
		a.client = nil // the work closes it
		request := a.cfg.Copy
		request.Progress = a.progress()
		a.work.Go(func(ctx context.Context) any { return a.copy(ctx, client, request) })
	case messages.CopyDefinition:
		a.work.GoWithin(a.cfg.Limit, func(ctx context.Context) any { return a.copyDefinition(ctx, m) })
	case messages.CopyProgressed, messages.Copied, messages.DefinitionCopied, messages.SessionRemoved:
		ctx.Request(ctx.Parent(), m)
	case messages.RemoveSession:
		a.remove(ctx)
	}
}

func (a *sftpActor) makeDirectory(ctx context.Context) any {
	client, err := transfer.Begin(ctx, a.cfg.Conn)
	if err != nil {
		return err
	}
	dir, err := client.MakeSession(ctx, a.cfg.Session)
	if err != nil {
		return errors.Join(err, client.Close())
	}
	return made{client: client, dir: dir}
}

// copy does step 3 in one SFTP session and, once that is closed, one exec: so that hosts with MaxSessions 1 can do it.
func (a *sftpActor) copy(ctx context.Context, client transfer.Stager, request transfer.CopyRequest) any {
	if client == nil { // a restarted actor: step 2 was its predecessor's
		result := a.makeDirectory(ctx)
		again, ok := result.(made)
		if !ok {
			return result
		}
		client = again.client
	}
	result, err := client.Copy(ctx, request)
	if closeErr := client.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := transfer.Finish(ctx, a.cfg.Conn, result.Pending); err != nil {
		return err
	}
	return messages.Copied{Sent: result.Sent, Skipped: result.Skipped}
}

// copyDefinition replaces the definition in an SFTP session of its own, which is closed before it is answered.
func (a *sftpActor) copyDefinition(ctx context.Context, m messages.CopyDefinition) any {
	client, err := transfer.Begin(ctx, a.cfg.Conn)
	if err != nil {
		return err
	}
	_, err = client.Copy(ctx, transfer.CopyRequest{
		Base: a.cfg.Session.Base, Dir: a.cfg.Copy.Dir, Files: []transfer.File{{Name: m.Name, Data: m.Data, Mode: 0o600}},
	})
	if closeErr := client.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return messages.DefinitionCopied{Version: m.Version}
}

// progress tells the actor how far the copy is, a few times a second.
func (a *sftpActor) progress() func(sent, total int64) {
	group, epoch := a.work, a.work.Epoch()
	var last time.Time
	return func(sent, total int64) {
		if now := time.Now(); sent == total || now.Sub(last) >= progressEvery {
			last = now
			group.Tell(epoch, messages.CopyProgressed{Sent: sent, Total: total})
		}
	}
}

// remove gives up what is in flight, waits for its end so that nothing is written behind the removal, and removes.
func (a *sftpActor) remove(ctx actor.Context) {
	old, client := a.work, a.client
	a.client = nil
	old.Cancel()
	a.work = worker.New(ctx)
	a.work.Go(func(ctx context.Context) any {
		old.Wait()
		if client != nil {
			// What the client still had open does not matter for a directory that goes away.
			_ = client.Close()
		}
		if err := transfer.Remove(ctx, a.cfg.Conn, a.cfg.Session); err != nil {
			return err
		}
		return messages.SessionRemoved{}
	})
}

// release gives everything back; it is called on restart and stop alike and never panics.
func (a *sftpActor) release() {
	a.work.Cancel()
	if client := a.client; client != nil {
		a.client = nil
		// Closing may wait for the connection, and a turn must not.
		go func() { _ = client.Close() }()
	}
}
