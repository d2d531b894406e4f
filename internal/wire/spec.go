package wire

import "time"

// SpecFile is the name of the Spec in a session directory.
const SpecFile = "session.json"

// Spec is what the shim is to do. The initiator copies it into the session directory in step 3 as SpecFile,
// mode 0600: it holds the token, which never appears in an argument list.
type Spec struct {
	Version int    `json:"version"` // 1
	Run     string `json:"run"`
	Host    string `json:"host"`
	Token   string `json:"token"` // proves ownership at every attach
	Nonce   string `json:"nonce"` // names this start: what the initiator recorded before asking for it
	Fence   uint64 `json:"fence"` // the fencing token of the initiator that made the session

	Argv []string `json:"argv"` // never empty; Argv[0] is an absolute path or looked up in PATH
	Env  []string `json:"env"`  // KEY=VALUE, added to the shim's own environment
	Dir  string   `json:"dir"`  // working directory; "" = the session directory

	// Endpoint says what the payload's etcd endpoint is: EndpointUnix or EndpointTCP. Where EndpointMark is not
	// empty, the shim replaces it by the endpoint in Argv and Env (only the shim knows a TCP port).
	Endpoint     string `json:"endpoint"`
	EndpointMark string `json:"endpoint_mark,omitempty"`

	// StatusFile is a file to which the payload appends a line, "true" or "false", whenever it begins or ceases to have
	// nothing to do; the shim tells the initiator in Quiet frames. "": the payload has none.
	StatusFile string `json:"status_file,omitempty"`

	Restart Restart `json:"restart,omitzero"` // what is done when the payload ends; zero = nothing

	OutputCap     int64         `json:"output_cap"`     // bytes of output kept, 0 = 64 MiB
	OrphanTimeout time.Duration `json:"orphan_timeout"` // nanoseconds without an attached initiator; <= 0 = never
	RemoveBase    bool          `json:"remove_base"`    // --no-cache: also remove the base directory when it is empty
}

// The values of Spec.Endpoint.
const (
	EndpointUnix = "unix"
	EndpointTCP  = "tcp"
)

// EndpointSocket is the name, in the session directory, of the payload's endpoint where that is a Unix socket.
const EndpointSocket = "endpoint.sock"

// Restart says whether the shim starts the payload again after it ended. It waits First, and twice as long each time
// after that, up to Max; a payload that ran for a minute counts as well, and the next wait is First again. A payload that could
// not be started the first time is never started again.
type Restart struct {
	Policy string        `json:"policy"`          // RestartNever (also ""), RestartOnFailure or RestartAlways
	First  time.Duration `json:"first,omitempty"` // nanoseconds, 0 = 1 s
	Max    time.Duration `json:"max,omitempty"`   // nanoseconds, 0 = 60 s
	Limit  int           `json:"limit,omitempty"` // give up after so many in a row, 0 = never
}

// The values of Restart.Policy.
const (
	RestartNever     = "never"
	RestartOnFailure = "on-failure" // exit status other than 0, a signal, or not started
	RestartAlways    = "always"
)
