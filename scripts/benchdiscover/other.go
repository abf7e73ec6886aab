//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench-discover: needs Linux: network namespaces")
	os.Exit(1)
}
