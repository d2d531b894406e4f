// Package revoked reads files of revoked SSH keys as OpenSSH does for RevokedHostKeys, and says whether a key is in one: public
// keys in lines, or a key revocation list that `ssh-keygen -k` made (PROTOCOL.krl of OpenSSH). A file that can't be read or
// understood as a whole is an error, never a shorter list.
package revoked
