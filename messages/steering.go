package messages

// PauseRun asks the supervisor to begin no more hosts. Those that are in work go on.
type PauseRun struct{}

// ContinueRun ends what PauseRun began.
type ContinueRun struct{}

// LimitConnections changes how many hosts may be in work at the same time; 0 = all. Where more are, they go on, and none begins until
// there are fewer.
type LimitConnections struct{ Limit int }
