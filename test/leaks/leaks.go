// Package leaks looks for goroutines that the tests of a package left.
package leaks

import (
	"time"

	"go.uber.org/goleak"
)

// patience is how long the last goroutines may take to get to their ends.
const patience = 20 * time.Second

// VerifyTestMain runs the tests of a package and exits as goleak.VerifyTestMain does. That looks for half a second, which is nothing on a
// busy machine; this waits as long as it takes, up to twenty seconds.
func VerifyTestMain(m goleak.TestingM, options ...goleak.Option) {
	goleak.VerifyTestMain(patient{m, options}, options...)
}

type patient struct {
	goleak.TestingM
	options []goleak.Option
}

// Run runs the tests and, where they are good, waits until no goroutine is left or the patience is over.
func (p patient) Run() int {
	code := p.TestingM.Run()
	if code == 0 {
		_ = Find(p.options...) // VerifyTestMain looks once more, and tells
	}
	return code
}

// Find is goleak.Find for a TestMain that has more to do: it waits for the last goroutines as long as VerifyTestMain.
func Find(options ...goleak.Option) error { return find(patience, options) }

func find(patience time.Duration, options []goleak.Option) (err error) {
	over := time.Now().Add(patience)
	for {
		if err = goleak.Find(options...); err == nil || time.Now().After(over) { // it waits between its looks
			return err
		}
	}
}
