package journal

import (
	"fmt"
	"runtime/debug"
)

// panicked is what guard makes of a panic inside bbolt. A handle that caused
// one may have kept its locks and must not be used or closed again.
type panicked struct{ value any }

func (p *panicked) Error() string { return fmt.Sprintf("%v: %v", ErrDamaged, p.value) }

func (p *panicked) Unwrap() error { return ErrDamaged }

// guard runs fn so that damaged content cannot end the process: bbolt panics
// on pages that make no sense, and reading a mapped page that the disk cannot
// deliver, or that was cut off, is a fault. Both come back as ErrDamaged.
func guard(fn func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if value := recover(); value != nil {
			err = &panicked{value}
		}
	}()
	return fn()
}
