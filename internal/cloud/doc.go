// Package cloud stands in for the cloud on a developer's machine and in tests: a broker, and a back-end that keeps the MQTT contract.
package cloud
