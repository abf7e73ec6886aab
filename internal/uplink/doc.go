// Package uplink carries what happened in the venue to the cloud and brings back what the cloud has to say, over MQTT.
package uplink
