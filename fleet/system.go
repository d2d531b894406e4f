package fleet

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// newSystem makes an actor system that logs where everything else does. Dead letters are no news: answers to actors
// that have ended meanwhile are part of every stop.
func newSystem(logger *slog.Logger) *actor.ActorSystem {
	return actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }),
		actor.WithDeadLetterThrottleCount(0),
		actor.WithDeadLetterRequestLogging(false),
	)
}

func now() time.Time { return time.Now() }
