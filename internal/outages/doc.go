// Package outages remembers each outage of the way to the cloud: what caused
// it, and what it held back.
package outages
