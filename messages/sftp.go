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

// RemoveSession asks the sftp actor for step 8 where no shim is alive to do it.
type RemoveSession struct{}

// SessionRemoved answers RemoveSession.
type SessionRemoved struct{}
