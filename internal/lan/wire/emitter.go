package wire

import (
	"reflect"
	"slices"
	"sync"

	"github.com/zishang520/socket.io/v3/pkg/types"
)

// emitter is the library's EventEmitter for the handful of listeners of one
// connection: a list instead of a table of tables, 2 KiB less. Safe for
// concurrent use; a listener may add and remove others.
type emitter struct {
	mu   sync.Mutex // guards below
	list []listening
}

var _ types.EventEmitter = (*emitter)(nil)

type listening struct {
	event types.EventName
	call  types.EventListener
	once  bool
}

// On implements [types.EventEmitter].
func (e *emitter) On(event types.EventName, listeners ...types.EventListener) error {
	e.add(event, false, listeners)
	return nil
}

// AddListener implements [types.EventEmitter].
func (e *emitter) AddListener(event types.EventName, listeners ...types.EventListener) error {
	return e.On(event, listeners...)
}

// Once implements [types.EventEmitter].
func (e *emitter) Once(event types.EventName, listeners ...types.EventListener) error {
	e.add(event, true, listeners)
	return nil
}

func (e *emitter) add(event types.EventName, once bool, listeners []types.EventListener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, call := range listeners {
		e.list = append(e.list, listening{event, call, once})
	}
}

// Emit implements [types.EventEmitter].
func (e *emitter) Emit(event types.EventName, args ...any) {
	e.mu.Lock()
	var calls []types.EventListener
	e.list = slices.DeleteFunc(e.list, func(l listening) bool {
		if l.event == event {
			calls = append(calls, l.call)
		}
		return l.event == event && l.once
	})
	e.mu.Unlock()
	for _, call := range calls {
		call(args...)
	}
}

// RemoveListener implements [types.EventEmitter].
func (e *emitter) RemoveListener(event types.EventName, listener types.EventListener) bool {
	code := reflect.ValueOf(listener).Pointer()
	return e.remove(func(l listening) bool {
		return l.event == event && reflect.ValueOf(l.call).Pointer() == code
	})
}

// RemoveAllListeners implements [types.EventEmitter].
func (e *emitter) RemoveAllListeners(event types.EventName) bool {
	return e.remove(func(l listening) bool { return l.event == event })
}

// Clear implements [types.EventEmitter].
func (e *emitter) Clear() { e.remove(func(listening) bool { return true }) }

func (e *emitter) remove(which func(listening) bool) (found bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := len(e.list)
	e.list = slices.DeleteFunc(e.list, which)
	return len(e.list) < before
}

// Listeners implements [types.EventEmitter].
func (e *emitter) Listeners(event types.EventName) (calls []types.EventListener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.list {
		if l.event == event {
			calls = append(calls, l.call)
		}
	}
	return calls
}

// ListenerCount implements [types.EventEmitter].
func (e *emitter) ListenerCount(event types.EventName) int { return len(e.Listeners(event)) }

// EventNames implements [types.EventEmitter].
func (e *emitter) EventNames() (names []types.EventName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.list {
		if !slices.Contains(names, l.event) {
			names = append(names, l.event)
		}
	}
	return names
}

// Len implements [types.EventEmitter].
func (e *emitter) Len() int { return len(e.EventNames()) }
