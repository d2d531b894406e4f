// Package probe asks a host for everything that has to be known before a session can be made there: platform, boot ID, tools, the
// directory to work in, what is cached, which sessions of this run are there.
//
// One exec of one POSIX shell script answers it all, since an exec costs a host milliseconds and a thousand hosts may be one machine.
// The login shell (which may be fish or tcsh) sees only "/bin/sh -s mgmt-remote-probe"; the script comes on standard input and
// its answer stands between random markers, so that noise of rc files is skipped.
//
// The probe never changes a host: it tries candidate directories by executing a file there, and removes that file again. What it says
// about sessions only decides where to look; the truth is what the shim answers.
//
// The package also owns where things are on a host (layout.go).
package probe
