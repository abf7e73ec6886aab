package uplink

// The names of what keeps a link from coming up, or ends it.
const (
	NoLAN         = "no_lan"
	NoRouter      = "no_router"
	NoInternet    = "no_internet"
	NoRoute       = "no_route"
	DNS           = "dns"
	DNSLie        = "dns_lie"
	CaptivePortal = "captive_portal"
	Proxy         = "proxy"
	BrokerDown    = "broker_down"
	NoAnswer      = "no_answer"
	TLS           = "tls"
	Clock         = "clock"
	Certificate   = "certificate"
	Credentials   = "credentials"
	Takeover      = "client_id_takeover"
	Subscription  = "subscription"
	Protocol      = "protocol"
	Timeout       = "timeout"
	Overflow      = "overflow"
	JournalFault  = "journal"
	ParkedFull    = "parked_full"
	MessageSize   = "message_size"
	Interrupted   = "interrupted"
	Renewed       = "renewed"
	Lost          = "lost"
)

// Remedy returns what a technician does about a failure of this name, in one
// sentence; empty for an unknown name.
func Remedy(name string) string {
	switch name {
	case NoLAN:
		return "Check the network cable or the Wi-Fi of the box, and that the router is on and gives it an address."
	case NoRouter:
		return "Restart the router; if it stays silent, check the cable between it and the box, and what is in between."
	case NoInternet:
		return "Restart the router, then ask the internet provider: the venue's network works, what is behind it does not answer."
	case NoRoute:
		return "Check the router and the network settings of the box: it has no way to the broker's address."
	case DNS:
		return "Check the name in uplink.brokers and the name server that the router gives out."
	case DNSLie:
		return "The network answers the broker's name with an address of its own: turn off its content filter or give the box another name server."
	case CaptivePortal:
		return "Log in to the network's web page once, or have the box's network let it out without a login."
	case Proxy:
		return "Check uplink.proxy (or HTTPS_PROXY) with whoever runs the proxy: its address, its password, and that it lets CONNECT through to the broker's port."
	case BrokerDown:
		return "Nothing to do in the venue: the broker is down; check the address in uplink.brokers if this is a new box."
	case NoAnswer:
		return "Something takes the connection and says nothing: a firewall in between, a wrong port in uplink.brokers, or a broker in trouble."
	case TLS:
		return "The broker's certificate does not fit: check its name and port in uplink.brokers, uplink.ca_file, and whether it has ended."
	case Clock:
		return "Set the clock of the box, or let it reach a time server (NTP, UDP port 123)."
	case Certificate:
		return "Put a whole and valid certificate with its key where uplink.cert_file and uplink.key_file say; no restart is needed."
	case Credentials:
		return "Check uplink.username and the password or its file with whoever runs the broker; a new file needs no restart."
	case ParkedFull:
		return "The back-end or the broker refuses too many events: see `avoqado-edge events list --parked`, and have it mended, or drop them."
	case MessageSize:
		return "Have the broker take messages of 256 KiB; what it does not take is kept aside: see `avoqado-edge events list --parked`."
	case Takeover:
		return "Two boxes use the same box.id: give one of them another, or turn off the copy."
	case Subscription:
		return "The broker's access rules must let the box read and write its topics: see configs/mosquitto.acl."
	case Protocol:
		return "What answers is no MQTT 3.1.1 broker at this address: check the scheme, port and path in uplink.brokers."
	case Timeout:
		return "The line is dead or far too slow: check the router and the internet line."
	case Overflow:
		return "More comes from the cloud than the box can store: check its disk; it goes on by itself."
	case JournalFault:
		return "The box cannot read or write its journal: look at the disk, then run `avoqado-edge journal check`."
	case Interrupted:
		return "Nothing: it was asked for, and ends by itself."
	case Renewed:
		return "Nothing: the box connects again with its new certificate or password."
	case Lost:
		return "Nothing if it comes back by itself; else check the internet line and the broker."
	}
	return ""
}
