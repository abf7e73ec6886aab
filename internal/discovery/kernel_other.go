//go:build !linux

package discovery

// kernel is not asked here.
func kernel() facts { return facts{} }
