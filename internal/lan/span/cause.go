package span

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Why a box is alone: the names in [Status.Cause].
const (
	causeStarting    = "starting"
	causeUnreachable = "unreachable"       // no connection
	causeClosed      = "connection_lost"   // there was one
	causeSilent      = "no_answer"         // it is there and says nothing
	causePassword    = "wrong_password"    // or none given, or a wrong user
	causeForbidden   = "not_permitted"     // the user may not publish or subscribe here
	causeDatabase    = "no_such_database"  // its number is out of range
	causeFull        = "too_many_clients"  // the Redis takes no more connections
	causeLoading     = "redis_loading"     // it starts and is not ready yet
	causeWrites      = "redis_refuses"     // full, read-only, or out of order
	causeUnsupported = "command_not_known" // a Redis too old, or a proxy
	causeForeign     = "not_redis"         // something else answers at the address
	causeOther       = "redis_error"       // see the text
)

// causes is what the answers of a Redis begin with or, for "ERR", hold.
func causeOf(answer string) string {
	for _, c := range []struct{ text, cause string }{
		{"WRONGPASS", causePassword},
		{"NOAUTH", causePassword},
		{"ERR invalid password", causePassword},
		{"ERR AUTH", causePassword},
		{"ERR Client sent AUTH", causePassword},
		{"NOPERM", causeForbidden},
		{"ERR DB index is out of range", causeDatabase},
		{"ERR invalid DB index", causeDatabase},
		{"ERR max number of clients", causeFull},
		{"LOADING", causeLoading},
		{"OOM", causeWrites},
		{"READONLY", causeWrites},
		{"MISCONF", causeWrites},
		{"MASTERDOWN", causeWrites},
		{"NOREPLICAS", causeWrites},
		{"CLUSTERDOWN", causeWrites},
		{"ERR unknown command", causeUnsupported},
	} {
		if strings.HasPrefix(answer, c.text) {
			return c.cause
		}
	}
	return causeOther
}

var errSilent = errors.New("what this box publishes does not come back")

// explain names why a connection was lost or never made.
func explain(err error) string {
	answer, isAnswer := errors.AsType[redis.Error](err)
	netErr, isNet := errors.AsType[net.Error](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errSilent):
		return causeSilent
	case isOp && op.Op == "dial":
		return causeUnreachable
	case isAnswer && !strings.HasPrefix(err.Error(), "redis: "):
		return causeOf(answer.Error())
	case isNet && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return causeSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isOp:
		return causeClosed
	}
	return causeForeign // what came could not be read as answers of a Redis
}
