//go:build !windows

package service

import "context"

// Managed runs run, as the service manager wants it if that started this
// process. Here it wants nothing.
func Managed(ctx context.Context, run func(context.Context) error) error { return run(ctx) }
