package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
)

// etcdTLSFlags name the files for TLS to an etcd of one's own, as etcdctl calls them.
type etcdTLSFlags struct{ ca, cert, key string }

func (f *etcdTLSFlags) register(p *pflag.FlagSet) {
	p.StringVar(&f.ca, "etcd-cacert", "", "CA `FILE` for --etcd-endpoints")
	p.StringVar(&f.cert, "etcd-cert", "", "client certificate `FILE` for --etcd-endpoints")
	p.StringVar(&f.key, "etcd-key", "", "client key `FILE` for --etcd-endpoints")
}

// config returns nil where no file is named.
func (f *etcdTLSFlags) config() (*tls.Config, error) {
	if *f == (etcdTLSFlags{}) {
		return nil, nil
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
