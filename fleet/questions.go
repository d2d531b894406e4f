package fleet

import "context"

// questions has a person asked one thing at a time, whatever it is about: logging in, becoming another user, host keys.
type questions struct {
	whom Prompter
	turn chan struct{} // holds one token: whoever has it may ask
}

// confirming are those to one who is also asked for a yes or no.
type confirming struct {
	*questions
	whom Confirmer
}

// oneAtATime is for whoever asks; nil where there is nobody.
func oneAtATime(whom Prompter) Prompter {
	if whom == nil {
		return nil
	}
	q := &questions{whom: whom, turn: make(chan struct{}, 1)}
	q.turn <- struct{}{}
	if c, can := whom.(Confirmer); can {
		return confirming{q, c}
	}
	return q
}

// Secret implements Prompter.
func (q *questions) Secret(ctx context.Context, prompt string) (Secret, error) {
	if err := q.take(ctx); err != nil {
		return "", err
	}
	defer q.give()
	return q.whom.Secret(ctx, prompt)
}

// Confirm implements Confirmer.
func (c confirming) Confirm(ctx context.Context, question string) (bool, error) {
	if err := c.take(ctx); err != nil {
		return false, err
	}
	defer c.give()
	return c.whom.Confirm(ctx, question)
}

func (q *questions) take(ctx context.Context) error {
	select {
	case <-q.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *questions) give() { q.turn <- struct{}{} }
