package auth

import "time"

// Hurry makes the pauses of a source short.
func (s *KeySource) Hurry() { s.first, s.onMiss = 20*time.Millisecond, 10*time.Millisecond }
