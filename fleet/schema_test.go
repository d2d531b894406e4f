package fleet

import (
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/schemacheck"
)

// fitsSchema holds an event against docs/schema: what fleets of all tests have to say is what programs get.
func fitsSchema(e messages.Event) error {
	line, err := messages.EncodeEvent(e)
	if err != nil {
		return err
	}
	return schemacheck.Event(line)
}
