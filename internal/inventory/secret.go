package inventory

import "log/slog"

// Secret is text that must not be shown: a password or a passphrase. Everything that prints a value (fmt, slog,
// encoding/json and other text marshalers) prints "[secret]" instead; only Reveal gives the text.
type Secret string

const hidden = "[secret]"

// Reveal returns the text itself. Call it where the text goes to a server or a decryption, nowhere else.
func (s Secret) Reveal() string { return string(s) }

// String hides the text from %s and %v.
func (s Secret) String() string { return hidden }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return hidden }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the text from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
