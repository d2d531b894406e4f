// Package transfer puts files on a host: the session directory, programs into a cache that is addressed by content, small files into the
// session directory. It is the only client user of github.com/pkg/sftp.
//
// A copy has two halves, since a host may allow one session per connection: an SFTP session uploads to temporary names, and after it is
// closed one exec (Finish) unpacks, verifies the hash and renames. Nobody ever sees a half-written file
// under its final name, and what is in the cache was verified once and is trusted afterwards: only its owner can write there.
//
// Hosts without SFTP get the same through a shell: one exec for the directories, one for each file.
//
// Every step is "check, then do", so that a copy that broke at any point is simply made again. Uploads live in the session
// directory until they are installed; what a broken copy left there goes with the next one or with the directory.
//
// The package never follows a symbolic link below a base directory, never makes anything readable for others, and never retries.
package transfer
