package discovery

import (
	"context"
	"errors"
	"fmt"
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

// avahi has the machine's avahi-daemon answer for the box, through an
// EntryGroup on D-Bus. It probes, announces, defends names and says goodbye,
// also when this process dies; and it is the only responder on the machine.
// All methods are called by one goroutine.
type avahi struct {
	conn  *dbus.Conn
	owner string // who avahi is on the bus: another after a restart
	group dbus.BusObject
	rec   records // as published; no label: nothing is
}

// errNoAvahi says that there is none to talk to.
var errNoAvahi = errors.New("no avahi-daemon on the system's D-Bus")

func newAvahi(ctx context.Context) (*avahi, error) {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAvahi, err)
	}
	a := &avahi{conn: conn}
	if a.owner, err = a.find(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	var path dbus.ObjectPath
	if err := a.call(ctx, conn.Object(avahiName, "/"), avahiName+".Server.EntryGroupNew").Store(&path); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask avahi for an entry group: %w", err)
	}
	a.group = conn.Object(avahiName, path)
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

func (a *avahi) tell(ctx context.Context, method string, args ...any) error {
	err := a.call(ctx, a.group, avahiGroup+"."+method, args...).Err
	var failed dbus.Error
	if errors.As(err, &failed) && failed.Name == avahiName+".CollisionError" {
		return errTaken
	}
	if err != nil {
		return fmt.Errorf("avahi %s: %w", method, err)
	}
	return nil
}

// publish has avahi say rec. It waits until avahi has made sure of the names.
func (a *avahi) publish(ctx context.Context, rec records) error {
	if a.rec.label == rec.label && fingerprint(a.rec.nics) == fingerprint(rec.nics) && sameServices(a.rec, rec) {
		err := a.update(ctx, rec)
		if err == nil {
			a.rec = rec
		}
		return err
	}
	a.rec = records{}
	if err := a.tell(ctx, "Reset"); err != nil {
		return err
	}
	if err := a.add(ctx, rec); err != nil {
		return err
	}
	if err := a.tell(ctx, "Commit"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*avahiTimeout)
	defer cancel()
	for {
		state, err := a.state(ctx)
		switch {
		case err != nil:
			return err
		case state == groupCollision:
			return errTaken
		case state == groupEstablished:
			a.rec = rec
			return nil
		case state > groupEstablished:
			return errors.New("avahi could not publish the box")
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("avahi does not come to an end with publishing: %w", err)
		}
	}
}

func sameServices(a, b records) bool {
	return slices.EqualFunc(a.services, b.services, func(x, y service) bool {
		return x.kind == y.kind && x.label == y.label && x.port == y.port
	})
}

func (a *avahi) add(ctx context.Context, rec records) error {
	host := rec.label + ".local"
	for _, n := range rec.nics {
		index := int32(n.Index) //nolint:gosec // the kernel's are small
		for _, addr := range n.announced() {
			protocol := int32(0)
			if addr.Is6() {
				protocol = 1
			}
			if err := a.tell(ctx, "AddAddress", index, protocol, noReverse, host, addr.String()); err != nil {
				return err
			}
		}
		for _, s := range rec.services {
			if err := a.tell(ctx, "AddService", index, anyProtocol, uint32(0), s.label, s.kind, "local", host, s.port, octets(s.txt)); err != nil {
				return err
			}
		}
	}
	return nil
}

// update changes the texts alone, which needs no goodbye.
func (a *avahi) update(ctx context.Context, rec records) error {
	for _, n := range rec.nics {
		for i, s := range rec.services {
			if slices.Equal(s.txt, a.rec.services[i].txt) {
				continue
			}
			index := int32(n.Index) //nolint:gosec // the kernel's are small
			if err := a.tell(ctx, "UpdateServiceTxt", index, anyProtocol, uint32(0), s.label, s.kind, "local", octets(s.txt)); err != nil {
				return err
			}
		}
	}
	return nil
}

func octets(txt []string) [][]byte {
	list := make([][]byte, len(txt))
	for i, t := range txt {
		list[i] = []byte(t)
	}
	return list
}

func (a *avahi) state(ctx context.Context) (state int32, err error) {
	if err := a.call(ctx, a.group, avahiGroup+".GetState").Store(&state); err != nil {
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
	state, err := a.state(ctx)
	if err == nil && state == groupCollision {
		a.rec = records{}
		return errTaken
	}
	return err
}

// withdraw has avahi say goodbye.
func (a *avahi) withdraw() {
	_ = a.tell(context.Background(), "Free") // closing has the same effect
	_ = a.conn.Close()
}
