//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench-lan: needs Linux: epoll and /proc")
	os.Exit(1)
}
