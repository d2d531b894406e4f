package messages

// MakeDirectory asks the sftp actor for step 2: the session directory, checked or made.
type MakeDirectory struct{}

// DirectoryMade answers MakeDirectory.
type DirectoryMade struct{ Dir string }

// Copy asks the sftp actor for step 3. What is to be copied is in the actor's props.
type Copy struct{}

// CopyProgressed tells how far step 3 is, in bytes on the wire; at most a few per second.
type CopyProgressed struct{ Sent, Total int64 }

// Copied answers Copy: everything is verified and in its final place.
type Copied struct{ Sent, Skipped int64 }

// CopyDefinition asks the sftp actor to put another definition in the place of the one that a payload follows: under a
// temporary name first, so that the payload never sees a part of it. It takes a session of its own on the connection.
type CopyDefinition struct {
	Version uint64
	Name    string // of the file in the session directory
	Data    []byte // what goes there
}

// DefinitionCopied answers CopyDefinition.
type DefinitionCopied struct{ Version uint64 }

// RemoveSession asks the sftp actor for step 8 where no shim is alive to do it.
type RemoveSession struct{}

// SessionRemoved answers RemoveSession.
type SessionRemoved struct{}
