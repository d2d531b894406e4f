package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// host is one that runs what is deployed.
type host struct {
	name   string
	status string // the status file
	noop   bool
	client *clientv3.Client
	lease  clientv3.LeaseID
}

func runMain(ctx context.Context, args []string) error {
	values, rest, err := flags(args, []string{
		"--hostname=", "--tmp-prefix", "--no-pgp", "--no-server", "--seeds=", "--converged-timeout=", "--converged-timeout-no-exit", "--converged-status-file=",
	}, []string{"--noop"})
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "empty" || values["--converged-timeout="] != "1" {
		return fmt.Errorf("unknown arguments %q", args)
	}
	prefix, err := os.MkdirTemp("", "mgmt-"+values["--hostname="]+"-") // which mgmt never removes
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(prefix, "state"), nil, 0o600); err != nil {
		return err
	}
	h := &host{name: values["--hostname="], status: values["--converged-status-file="]}
	_, h.noop = values["--noop"]
	if h.client, err = connect(values["--seeds="]); err != nil {
		return err
	}
	defer h.client.Close() // at the end there is nobody to tell
	err = h.run(ctx)
	if ctx.Err() != nil {
		fmt.Println("interrupted")
		return nil
	}
	return err
}

func (h *host) run(ctx context.Context) error {
	session, err := concurrency.NewSession(h.client, concurrency.WithTTL(60))
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	defer session.Close() // the lease ends by itself
	h.lease = session.Lease()
	if err := h.syncMembers(ctx); err != nil {
		return err
	}
	code, err := h.awaitDeploy(ctx)
	if err != nil {
		return err
	}
	for line := range strings.Lines(code) {
		words := strings.Fields(os.ExpandEnv(line))
		if len(words) > 0 && strings.HasPrefix(words[0], "@") {
			if words[0] != "@"+h.name {
				continue
			}
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		if err := h.do(ctx, words[0], words[1:]); err != nil {
			return fmt.Errorf("%q: %w", words, err)
		}
	}
	<-ctx.Done()
	return nil
}

// syncMembers goes on with the client URLs of the cluster's members, and fails where they have none.
func (h *host) syncMembers(ctx context.Context) error {
	list, err := h.client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("initial state sync: %w", err)
	}
	var endpoints []string
	for _, m := range list.Members {
		if m.Name == "" {
			continue
		}
		if _, err := types.NewURLs(m.PeerURLs); err != nil {
			return fmt.Errorf("peer URLs of %s: %w", m.Name, err)
		}
		urls, err := types.NewURLs(m.ClientURLs)
		if err != nil {
			return fmt.Errorf("client URLs of %s: %w", m.Name, err)
		}
		endpoints = append(endpoints, urls.StringSlice()...)
	}
	h.client.SetEndpoints(endpoints...)
	return nil
}

// awaitDeploy returns the newest deploy's code, and waits for one where there is none.
func (h *host) awaitDeploy(ctx context.Context) (string, error) {
	got, err := h.client.Get(ctx, root+"/deploy/", clientv3.WithLastCreate()...)
	if err != nil {
		return "", err
	}
	if len(got.Kvs) > 0 {
		return string(got.Kvs[0].Value), nil
	}
	fmt.Println("no deploy yet")
	return h.await(ctx, root+"/deploy/1", got.Header.Revision)
}

// await waits for a key and returns its value.
func (h *host) await(ctx context.Context, key string, revision int64) (string, error) {
	for answer := range h.client.Watch(ctx, key, clientv3.WithRev(revision)) {
		for _, e := range answer.Events {
			if e.Type == clientv3.EventTypePut {
				return string(e.Kv.Value), nil
			}
		}
		if err := answer.Err(); err != nil {
			return "", err
		}
	}
	return "", errors.New("the watch ended")
}

func (h *host) do(ctx context.Context, instruction string, args []string) error {
	switch instruction {
	case "noop":
		h.noop = true
	case "converged":
		return h.say(ctx, true)
	case "diverged":
		return h.say(ctx, false)
	case "flap":
		return h.append("false\ntrue\n")
	case "write":
		if h.noop {
			fmt.Println("would write", args[0])
			return nil
		}
		return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")+"\n"), 0o600)
	case "await":
		return awaitFile(ctx, args[0])
	case "meet":
		return h.meet(ctx, args)
	case "try":
		_, err := h.client.Put(ctx, args[0], "x")
		switch {
		case err == nil:
			fmt.Println(args[0], "allowed")
		case status.Code(err) == codes.PermissionDenied || errors.Is(err, rpctypes.ErrPermissionDenied):
			fmt.Println(args[0], "refused")
		default:
			return err
		}
	case "count":
		got, err := h.client.Get(ctx, root+"/deploy/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		fmt.Println("deploys:", got.Count)
	case "crash":
		return exitStatus(3)
	default:
		return errors.New("unknown instruction")
	}
	return nil
}

// say tells the status file and the etcd whether this host is converged.
func (h *host) say(ctx context.Context, converged bool) error {
	if err := h.append(fmt.Sprintf("%t\n", converged)); err != nil {
		return err
	}
	return h.put(ctx, root+"/converged/"+h.name, fmt.Sprint(converged), clientv3.WithLease(h.lease))
}

// put goes on while the link is away, as mgmt does: a write that was under way when it broke fails, and is written again.
func (h *host) put(ctx context.Context, key, value string, opts ...clientv3.OpOption) error {
	for {
		_, err := h.client.Put(ctx, key, value, opts...)
		if status.Code(err) != codes.Unavailable {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *host) append(lines string) error {
	f, err := os.OpenFile(h.status, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(lines)
	return errors.Join(err, f.Close())
}

func awaitFile(ctx context.Context, path string) error {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (h *host) meet(ctx context.Context, names []string) error {
	if err := h.put(ctx, root+"/met/"+h.name, "x", clientv3.WithLease(h.lease)); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := h.await(ctx, root+"/met/"+name, 1); err != nil {
			return err
		}
	}
	fmt.Println("met", strings.Join(names, " "))
	return nil
}
