// Package boxtest starts a whole box, brokers and real clients inside a test.
package boxtest
