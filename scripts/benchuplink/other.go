//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench-uplink: needs Linux: /proc")
	os.Exit(1)
}
