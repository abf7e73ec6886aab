package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	avahiName  = "org.freedesktop.Avahi"
	avahiGroup = avahiName + ".EntryGroup"

	// avahiTimeout bounds each call; avahi answers within milliseconds.
	avahiTimeout = 3 * time.Second

	anyProtocol = int32(-1)
	noReverse   = uint32(16) // the address has a name already: the machine's

	groupEstablished = int32(2)
	groupCollision   = int32(3)
)

// avahi has the machine's avahi-daemon answer for the box, on D-Bus. It probes,
// announces, defends names and says goodbye, also when this process dies; and it
// is the only responder on the machine. All methods are called by one goroutine.
type avahi struct {
	conn  *dbus.Conn
	owner string // who avahi is on the bus: another after a restart
	said  map[string]entry
}

// entry is what avahi says as one, in an EntryGroup: an address, or a service on
// one interface. So what changes takes nothing else with it: emptying a group says
// goodbye to all that is in it. A group also holds no more than 32 records.
type entry struct {
	index   int32
	host    string
	addr    netip.Addr // the zero Addr: it is the service
	service service
	group   dbus.BusObject
}

// key is the same for what needs no new claim.
func (e entry) key() string {
	return fmt.Sprint(e.index, e.host, e.addr, e.service.kind, e.service.label, e.service.port)
}

// errNoAvahi says that there is none to talk to.
var errNoAvahi = errors.New("no avahi-daemon on the system's D-Bus")

func newAvahi(ctx context.Context) (*avahi, error) {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAvahi, err)
	}
	a := &avahi{conn: conn, said: map[string]entry{}}
	if a.owner, err = a.find(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	group, err := a.newGroup(ctx) // it may be configured to take nothing
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = a.tell(ctx, group, "Free")
	return a, nil
}

func (a *avahi) String() string { return "avahi" }

// find returns who avahi is now. It does not start one.
func (a *avahi) find(ctx context.Context) (owner string, err error) {
	err = a.call(ctx, a.conn.BusObject(), "org.freedesktop.DBus.GetNameOwner", avahiName).Store(&owner)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoAvahi, err)
	}
	return owner, nil
}

func (a *avahi) call(ctx context.Context, o dbus.BusObject, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, avahiTimeout)
	defer cancel()
	return o.CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

func (a *avahi) tell(ctx context.Context, group dbus.BusObject, method string, args ...any) error {
	err := a.call(ctx, group, avahiGroup+"."+method, args...).Err
	var failed dbus.Error
	if errors.As(err, &failed) && failed.Name == avahiName+".CollisionError" {
		return errTaken
	}
	if err != nil {
		return fmt.Errorf("avahi %s: %w", method, err)
	}
	return nil
}

// publish has avahi say rec, and waits until it has made sure of the names. What
// is new is there before what is old goes, so that an address that changes leaves
// no gap.
func (a *avahi) publish(ctx context.Context, rec records) error {
	wanted, fresh := map[string]bool{}, []entry{}
	for _, e := range entries(rec) {
		wanted[e.key()] = true
		old, said := a.said[e.key()]
		if said && slices.Equal(old.service.txt, e.service.txt) {
			continue
		}
		if e.group = old.group; said {
			s := e.service
			if err := a.tell(ctx, e.group, "UpdateServiceTxt", e.index, anyProtocol, uint32(0), s.label, s.kind, "local", octets(s.txt)); err != nil {
				return err
			}
		} else {
			if err := a.add(ctx, &e); err != nil {
				return err
			}
			fresh = append(fresh, e)
		}
		a.said[e.key()] = e
	}
	ctx, cancel := context.WithTimeout(ctx, 2*avahiTimeout)
	defer cancel()
	for _, e := range fresh {
		if err := a.established(ctx, e.group); err != nil {
			return err
		}
	}
	a.free(ctx, func(key string) bool { return !wanted[key] })
	return nil
}

func entries(rec records) (list []entry) {
	host := rec.label + ".local"
	for _, n := range rec.nics {
		index := int32(n.Index) //nolint:gosec // the kernel's are small
		for _, addr := range n.announced() {
			list = append(list, entry{index: index, host: host, addr: addr})
		}
		for _, s := range rec.services {
			list = append(list, entry{index: index, host: host, service: s})
		}
	}
	return list
}

// add gives e a group that is about to be published.
func (a *avahi) add(ctx context.Context, e *entry) error {
	var err error
	if e.group, err = a.newGroup(ctx); err != nil {
		return err
	}
	if s := e.service; e.addr.IsValid() {
		// On both IP versions: a terminal may listen on one of them alone.
		err = a.tell(ctx, e.group, "AddAddress", e.index, anyProtocol, noReverse, e.host, e.addr.String())
	} else {
		err = a.tell(ctx, e.group, "AddService", e.index, anyProtocol, uint32(0), s.label, s.kind, "local", e.host, s.port, octets(s.txt))
	}
	if err == nil {
		err = a.tell(ctx, e.group, "Commit")
	}
	if err != nil {
		_ = a.tell(ctx, e.group, "Free") // nobody else knows of it
	}
	return err
}

func (a *avahi) newGroup(ctx context.Context) (dbus.BusObject, error) {
	var path dbus.ObjectPath
	if err := a.call(ctx, a.conn.Object(avahiName, "/"), avahiName+".Server.EntryGroupNew").Store(&path); err != nil {
		return nil, fmt.Errorf("ask avahi for an entry group: %w", err)
	}
	return a.conn.Object(avahiName, path), nil
}

// established waits until avahi has made sure of the names in a group.
func (a *avahi) established(ctx context.Context, group dbus.BusObject) error {
	for {
		state, err := a.state(ctx, group)
		switch {
		case err != nil:
			return err
		case state == groupCollision:
			return errTaken
		case state == groupEstablished:
			return nil
		case state > groupEstablished:
			return errors.New("avahi could not publish the box")
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("avahi does not come to an end with publishing: %w", err)
		}
	}
}

// free has avahi say goodbye to some of what it says.
func (a *avahi) free(ctx context.Context, which func(key string) bool) {
	for key, e := range a.said {
		if which(key) {
			_ = a.tell(ctx, e.group, "Free") // if it cannot, avahi is gone, and all with it
			delete(a.said, key)
		}
	}
}

func octets(txt []string) [][]byte {
	list := make([][]byte, len(txt))
	for i, t := range txt {
		list[i] = []byte(t)
	}
	return list
}

func (a *avahi) state(ctx context.Context, group dbus.BusObject) (state int32, err error) {
	if err := a.call(ctx, group, avahiGroup+".GetState").Store(&state); err != nil {
		return 0, fmt.Errorf("avahi GetState: %w", err)
	}
	return state, nil
}

// check finds out whether avahi still says what it was given: it may have
// restarted, or have met another host with the name.
func (a *avahi) check() error {
	ctx := context.Background() // each call has an end
	owner, err := a.find(ctx)
	if err != nil {
		return err
	}
	if owner != a.owner {
		return fmt.Errorf("%w: it restarted", errNoAvahi)
	}
	for _, e := range a.said {
		switch state, err := a.state(ctx, e.group); {
		case err != nil:
			return err
		case state == groupCollision:
			a.free(ctx, func(string) bool { return true })
			return errTaken
		}
	}
	return nil
}

// withdraw has avahi say goodbye: it does for whoever leaves the bus.
func (a *avahi) withdraw() { _ = a.conn.Close() }
