package sshconfig

import (
	"fmt"
	"strings"
)

// Keyword is one that has a meaning for us.
type Keyword uint8

// The keywords, and how they are shown.
const (
	AddressFamily Keyword = iota
	BindAddress
	CanonicalDomains
	CanonicalizeFallbackLocal
	CanonicalizeHostname
	CanonicalizeMaxDots
	CanonicalizePermittedCNAMEs
	CertificateFile
	Ciphers
	ConnectTimeout
	GlobalKnownHostsFile
	HashKnownHosts
	HostKeyAlgorithms
	HostKeyAlias
	HostName
	IdentitiesOnly
	IdentityAgent
	IdentityFile
	KexAlgorithms
	KnownHostsCommand
	MACs
	Port
	ProxyCommand
	ProxyJump
	PubkeyAcceptedAlgorithms
	RevokedHostKeys
	ServerAliveCountMax
	ServerAliveInterval
	StrictHostKeyChecking
	User
	UserKnownHostsFile
	keywords // how many there are

	includeFiles
	hostBlock
	matchBlocks
	ignoreUnknown
	unused // of ssh, and no matter here
)

var keywordNames = [keywords]string{
	AddressFamily: "AddressFamily", BindAddress: "BindAddress", CertificateFile: "CertificateFile", Ciphers: "Ciphers",
	CanonicalDomains: "CanonicalDomains", CanonicalizeFallbackLocal: "CanonicalizeFallbackLocal", CanonicalizeHostname: "CanonicalizeHostname",
	CanonicalizeMaxDots: "CanonicalizeMaxDots", CanonicalizePermittedCNAMEs: "CanonicalizePermittedCNAMEs",
	ConnectTimeout: "ConnectTimeout", GlobalKnownHostsFile: "GlobalKnownHostsFile", HashKnownHosts: "HashKnownHosts",
	HostKeyAlgorithms: "HostKeyAlgorithms", HostKeyAlias: "HostKeyAlias", HostName: "HostName", IdentitiesOnly: "IdentitiesOnly",
	IdentityAgent: "IdentityAgent", IdentityFile: "IdentityFile", KexAlgorithms: "KexAlgorithms", KnownHostsCommand: "KnownHostsCommand", MACs: "MACs", Port: "Port",
	ProxyCommand: "ProxyCommand", ProxyJump: "ProxyJump", PubkeyAcceptedAlgorithms: "PubkeyAcceptedAlgorithms",
	RevokedHostKeys: "RevokedHostKeys", ServerAliveCountMax: "ServerAliveCountMax", ServerAliveInterval: "ServerAliveInterval",
	StrictHostKeyChecking: "StrictHostKeyChecking", User: "User", UserKnownHostsFile: "UserKnownHostsFile",
}

// String is the keyword as the manual page writes it.
func (k Keyword) String() string {
	if k < keywords {
		return keywordNames[k]
	}
	return fmt.Sprintf("keyword(%d)", uint8(k))
}

// Keywords are all that have a meaning for us, by name.
func Keywords() []Keyword {
	all := make([]Keyword, keywords)
	for i := range all {
		all[i] = Keyword(i)
	}
	return all
}

// byName has all keywords, in lower case.
var byName = func() map[string]Keyword {
	m := map[string]Keyword{
		"include": includeFiles, "host": hostBlock, "match": matchBlocks, "ignoreunknown": ignoreUnknown,
		"identityfile2": IdentityFile, "pubkeyacceptedkeytypes": PubkeyAcceptedAlgorithms,
	}
	for _, name := range strings.Fields(otherKeywords) {
		m[name] = unused
	}
	for k, name := range keywordNames {
		m[strings.ToLower(name)] = Keyword(k)
	}
	return m
}()

// otherKeywords are all others that OpenSSH up to 10 knows, and those that Debian, Red Hat and Apple add.
const otherKeywords = `
	addkeystoagent afstokenpassing batchmode bindinterface casignaturealgorithms challengeresponseauthentication channeltimeout checkhostip
	cipher clearallforwardings compression compressionlevel connectionattempts controlmaster controlpath controlpersist
	dsaauthentication dynamicforward enableescapecommandline enablesshkeysign escapechar exitonforwardfailure fallbacktorsh
	fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout forwardx11trusted gatewayports
	globalknownhostsfile2 gssapiauthentication gssapiclientidentity gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange
	gssapirenewalforcesrekey gssapiserveridentity gssapitrustdns hostbasedacceptedalgorithms hostbasedauthentication
	hostbasedkeytypes ipqos kbdinteractiveauthentication kbdinteractivedevices keepalive kerberosauthentication
	kerberostgtpassing localcommand localforward loglevel logverbose nohostauthenticationforlocalhost
	numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand permitremoteopen pkcs11provider
	preferredauthentications protocol protocolkeepalives proxyusefdpass pubkeyauthentication refuseconnection rekeylimit
	remotecommand remoteforward requesttty requiredrsasize rhostsauthentication rhostsrsaauthentication
	rsaauthentication rsaminsize securitykeyprovider sendenv sessiontype setenv setuptimeout skeyauthentication smartcarddevice stdinnull
	streamlocalbindmask streamlocalbindunlink syslogfacility tag tcpkeepalive tisauthentication tunnel tunneldevice
	updatehostkeys useblacklistedkeys usekeychain useprivilegedport userknownhostsfile2 useroaming usersh verifyhostkeydns versionaddendum
	visualhostkey warnweakcrypto xauthlocation`
