//go:build !unix

package cli

import "io"

// rows is how many lines a terminal shows; 0: it does not say.
func rows(io.Writer) int { return 0 }
