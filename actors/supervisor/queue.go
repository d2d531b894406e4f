package supervisor

// queue is the hosts that wait to begin, first come, first served, kept so that nobody is looked at who can't begin: each
// host that ends asks who is next, and there may be very many. A host that is in it twice begins once.
type queue struct {
	ending []*host   // asked to end before they began
	urgent []*host   // nothing but the bound of connections holds them back
	waves  [][]*host // the others
	first  int       // nobody waits in an earlier wave
}

func (q *queue) add(h *host, wave int) {
	for len(q.waves) <= wave {
		q.waves = append(q.waves, nil)
	}
	q.waves[wave] = append(q.waves[wave], h)
	q.first = min(q.first, wave)
}

// next takes out the host whose turn it is when so many waves may begin; nil where there is none.
func (q *queue) next(waves int) *host {
	if h := pop(&q.urgent); h != nil {
		return h
	}
	for ; q.first < min(waves, len(q.waves)); q.first++ {
		if h := pop(&q.waves[q.first]); h != nil {
			return h
		}
	}
	return nil
}

// takeEnding takes out those that were asked to end.
func (q *queue) takeEnding() []*host {
	ending := q.ending
	q.ending = nil
	return ending
}

// takeWaves takes out all that are held back by more than the bound of connections.
func (q *queue) takeWaves() []*host {
	var all []*host
	for _, wave := range q.waves {
		all = append(all, wave...)
	}
	q.waves, q.first = nil, 0
	return all
}

// pop takes out the first host that still waits.
func pop(hosts *[]*host) *host {
	for len(*hosts) > 0 {
		h := (*hosts)[0]
		(*hosts)[0], *hosts = nil, (*hosts)[1:]
		if h.waits() {
			return h
		}
	}
	return nil
}

// waits reports whether the host has not begun and may still do so.
func (h *host) waits() bool { return h.pid == nil && !h.done }
