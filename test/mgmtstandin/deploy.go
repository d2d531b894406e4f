package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// root is above all keys of mgmt.
const root = "/_mgmt"

// connect makes a client of seeds, as strict about the URLs as mgmt.
func connect(seeds string) (*clientv3.Client, error) {
	urls, err := types.NewURLs([]string{seeds})
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{Endpoints: urls.StringSlice()})
}

func deployMain(ctx context.Context, args []string) error {
	values, rest, err := flags(args, []string{"--no-git", "--seeds="}, []string{"--noop"})
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return fmt.Errorf("want a language and its code, not %q", rest)
	}
	code, err := readCode(rest[0], rest[1])
	if err != nil {
		return err
	}
	fmt.Println("deploying", rest[1])
	switch lines := strings.Split(string(code), "\n"); {
	case slices.Contains(lines, "mistake"):
		return fmt.Errorf("type error in %s", rest[1])
	case slices.Contains(lines, "hang"):
		<-ctx.Done()
		return ctx.Err()
	}
	client, err := connect(values["--seeds="])
	if err != nil {
		return err
	}
	defer client.Close() // what it was for is done
	kv := namespace.NewKV(client.KV, root)
	old, err := kv.Get(ctx, "/deploy/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	key := "/deploy/" + strconv.FormatInt(old.Count+1, 10)
	if _, noop := values["--noop"]; noop {
		code = append([]byte("noop\n"), code...)
	}
	done, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(code))).Commit()
	if err == nil && !done.Succeeded {
		err = fmt.Errorf("%s was there already", key)
	}
	return err
}

func readCode(language, path string) ([]byte, error) {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case language == "lang" && fi.IsDir():
		return os.ReadFile(filepath.Join(path, "main.mcl"))
	case language == "lang" && filepath.Ext(path) == ".mcl", language == "yaml" && filepath.Ext(path) == ".yaml":
		return os.ReadFile(path)
	}
	return nil, fmt.Errorf("%s is no %s", path, language)
}
