//go:build !linux

package daemon

import "github.com/avoqado/avoqado-edge/internal/api"

// Boxes run Linux. Elsewhere, where developers run `dev`, these are not told.

func diskStatus(string) api.DiskStatus { return api.DiskStatus{} }

func readOnly(string) bool { return false }

// temperature is not known here.
func temperature() *float64 { return nil }

func inodes(string) (free, total uint64) { return 0, 0 }
