//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// TestExternalEtcdWithTLS runs over an etcd of the operator's own that wants client certificates, kills the initiator, and continues.
// What payloads wrote is where it was; the keys to that etcd are not in the run's state, and have to be given again.
func TestExternalEtcdWithTLS(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	endpoint, flags := l.startEtcd()
	args := append(flags, "--json", "--keep-state", "--etcd-endpoints", endpoint, "--", publicSelf, "onceonly")
	first := l.start(l.args(args...)...)
	run := first.runID()
	for _, h := range l.hosts {
		first.awaitOutput(h.name, "1\n")
	}
	first.signal(syscall.SIGKILL)
	first.wantCode(-1)

	without := l.run("resume", run)
	without.wantCode(1)
	if got := without.stderr.String(); !strings.Contains(got, "--etcd-c") {
		t.Errorf("the flags for the etcd are not asked for: %s", got)
	}

	second := l.start(append([]string{"resume", "--json", run}, flags...)...)
	for _, h := range l.hosts {
		second.awaitAnyOutput(h.name)
		h.goOn(t)
	}
	second.wantCode(0)
	for _, h := range l.hosts {
		second.wantOutcome(h.name, "ok")
		h.wantOneStart(t)
		l.wantWholeLog(t, run, h.name)
		h.checkCacheOnly(t, run)
	}
}

// startEtcd starts an etcd that only speaks TLS, and only with clients that have a certificate. It returns its URL and the flags that a
// client of it needs.
func (l *lab) startEtcd() (endpoint string, flags []string) {
	t := l.t
	t.Helper()
	ca := newAuthority(t)
	caFile := l.file("ca.pem", ca.pem, 0o600)
	serverCert, serverKey := l.certificate(ca, "server")
	clientCert, clientKey := l.certificate(ca, "client")

	c := embed.NewConfig()
	c.Dir = filepath.Join(l.dir, "etcd")
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ClientTLSInfo = transport.TLSInfo{CertFile: serverCert, KeyFile: serverKey, TrustedCAFile: caFile, ClientCertAuth: true}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		t.Fatal(err)
	}
	return "https://" + server.Clients[0].Addr().String(), []string{"--etcd-cacert", caFile, "--etcd-cert", clientCert, "--etcd-key", clientKey}
}

// authority signs certificates for the time of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key, pem: pemOf("CERTIFICATE", der)}
}

// certificate makes a key and a certificate for it, good for both sides of a connection to 127.0.0.1, and returns their files.
func (l *lab) certificate(ca authority, name string) (certFile, keyFile string) {
	l.t.Helper()
	key := newKey(l.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		l.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.file(name+".pem", pemOf("CERTIFICATE", der), 0o600), l.file(name+".key", pemOf("PRIVATE KEY", secret), 0o600)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
