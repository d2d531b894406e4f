//go:build !engine

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/spf13/pflag"
)

// etcdTLSFlags name the files for TLS to an etcd of one's own, as etcdctl calls them.
type etcdTLSFlags struct{ ca, cert, key string }

func (f *etcdTLSFlags) register(p *pflag.FlagSet) {
	p.StringVar(&f.ca, "etcd-cacert", "", "check the servers of --etcd-endpoints with the CA in `FILE`")
	p.StringVar(&f.cert, "etcd-cert", "", "show the client certificate in `FILE` to them")
	p.StringVar(&f.key, "etcd-key", "", "its key, in `FILE`")
}

// config returns nil where no file is named. Files for an etcd that is not used are a mistake.
func (f *etcdTLSFlags) config(external bool) (*tls.Config, error) {
	if *f == (etcdTLSFlags{}) {
		return nil, nil
	}
	if !external {
		return nil, errors.New("--etcd-cacert, --etcd-cert and --etcd-key are for --etcd-endpoints, which is not given")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--etcd-cacert %s: no certificate in it", f.ca)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return nil, errors.New("--etcd-cert and --etcd-key go together")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// checkEndpoints finds URLs that can't be an etcd's. What is right in form and still no etcd shows when it is dialed,
// which is before any host is.
func checkEndpoints(endpoints []string) error {
	for _, e := range endpoints {
		u, err := url.Parse(e)
		switch {
		case err != nil || u.Scheme == "":
		case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", u.Scheme == "unix":
			continue
		}
		if host, port, err := net.SplitHostPort(e); err == nil && host != "" && port != "" {
			continue
		}
		return fmt.Errorf("--etcd-endpoints %q: use https://HOST:PORT, http://HOST:PORT or unix://PATH", e)
	}
	return nil
}
