// Package brokers runs the brokers that a back-end may choose, on the sample
// files of configs/, for tests that hold an uplink against them.
package brokers
