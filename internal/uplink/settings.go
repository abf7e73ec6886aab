package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Settings is the configuration that the cloud gives the boxes of a venue. Each
// message is the whole of it: what it leaves out is not set.
type Settings struct {
	Version     uint64          `json:"version"`
	VenueStatus string          `json:"venueStatus"` // empty: not said
	JWKS        json.RawMessage `json:"jwks"`        // nil: no keys
	Revoked     []Revocation    `json:"revoked"`
	ServerTime  time.Time       `json:"serverTime"` // when it was sent; zero: not said
}

// Revocation takes back tokens: the one with an id, those of a login session,
// those of a person, then only the ones issued before a time if it is set, or
// those of a terminal, by its serial or the back-end's id. Exactly one of the
// four is set. A JSON string is a token's id.
type Revocation struct {
	Token   string    `json:"jti"`
	Session string    `json:"sid"`
	Subject string    `json:"sub"`
	Device  string    `json:"device"`
	Before  time.Time `json:"before"`
}

// UnmarshalJSON refuses members it does not know: they may narrow what is meant.
func (r *Revocation) UnmarshalJSON(raw []byte) error {
	type plain Revocation
	if len(raw) > 0 && raw[0] == '"' {
		*r = Revocation{}
		if err := json.Unmarshal(raw, &r.Token); err != nil {
			return err
		}
	} else if bad := decodeStrict(raw, (*plain)(r)); bad != nil {
		return errors.New(bad.text)
	}
	set := 0
	for _, id := range []string{r.Token, r.Session, r.Subject, r.Device} {
		if id != "" {
			set++
		}
		if len(id) > event.MaxKey {
			return fmt.Errorf("an id has %d bytes, more than %d", len(id), event.MaxKey)
		}
	}
	switch {
	case set != 1:
		return errors.New("a revocation names exactly one of jti, sid, sub and device")
	case !r.Before.IsZero() && r.Subject == "":
		return errors.New("before goes with sub alone")
	}
	return nil
}

// parseSettings leaves out members that it does not know: unlike those of a
// broadcast they cannot change what the known ones mean. Entries of revoked that
// cannot be read are left out, too, and say in unfit why: they are not to hold up
// the others.
func parseSettings(raw []byte) (s Settings, bad *unreadable, unfit error) {
	var all struct {
		Settings
		Version *uint64           `json:"version"`
		Revoked []json.RawMessage `json:"revoked"`
	}
	if !utf8.Valid(raw) {
		return Settings{}, unread("not_json", "not valid UTF-8"), nil
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		code := "bad_config"
		if _, syntax := errors.AsType[*json.SyntaxError](err); syntax {
			code = "not_json"
		}
		return Settings{}, unread(code, "%v", err), nil
	}
	if all.Version == nil {
		return Settings{}, unread("bad_config", "no version"), nil
	}
	s = all.Settings
	s.Version = *all.Version
	for i, entry := range all.Revoked {
		var r Revocation
		if err := json.Unmarshal(entry, &r); err != nil {
			unfit = errors.Join(unfit, fmt.Errorf("revoked %d: %w", i, err))
			continue
		}
		s.Revoked = append(s.Revoked, r)
	}
	return s, nil, unfit
}

// config keeps a configuration, if it is newer than the one in force, and then
// puts it in force. Keys and revocations that cannot be used hold up nothing else
// of it: what it takes back must end, and whom the keys in force let in is to go on
// working.
func (d *downlink) config(ctx context.Context, raw []byte) (*unreadable, error) {
	s, bad, unfit := parseSettings(raw)
	if bad != nil {
		return bad, nil
	}
	have := d.u.Status().Config
	if have != nil && s.Version < have.Version {
		return nil, nil
	}
	if unfit != nil {
		bad = unread("bad_revoked", "the rest is in force: %v", unfit)
	}
	apply, err := d.u.box.Configure(&s, d.u.jwks)
	if err != nil {
		err = errors.Join(err, unfit)
		bad = unread("bad_keys", "the rest is in force, with the keys that were under these names before: %v", err)
		if raw, err = json.Marshal(s); err != nil {
			return unread("bad_config", "%v", err), nil
		}
	}
	if have != nil && s.Version == have.Version {
		return bad, nil // it is in force; also after a restart the back-end is told what of it is not
	}
	// Commit point. After a crash before it the broker sends the message again;
	// after it the next start puts it in force.
	if err := d.persist(ctx, "configuration", func() error {
		return d.u.notes.Put(configSpace, map[string][]byte{configKey: raw})
	}); err != nil {
		return nil, err
	}
	d.u.configured(s, apply)
	d.u.log.Info("configuration of the cloud in force", "version", s.Version, "venue", s.VenueStatus, "revoked", len(s.Revoked))
	return bad, nil
}

func (u *Uplink) configured(s Settings, apply func()) {
	apply()
	u.jwks = s.JWKS
	u.tell(func(st *Status) {
		st.Config = &ConfigMark{Version: s.Version, VenueStatus: s.VenueStatus, At: now()}
	})
}

// recallConfig puts the configuration on disk in force. One that cannot be used
// is as good as none: the broker holds it and sends it at the next connect.
func (u *Uplink) recallConfig() error {
	all, err := u.notes.All(configSpace)
	raw, kept := all[configKey]
	switch {
	case err != nil && all == nil:
		return fmt.Errorf("read configuration of the cloud: %w", err)
	case err != nil:
		u.log.Error("configuration of the cloud cannot be read", "err", err)
		return nil
	case !kept:
		return nil
	}
	s, bad, unfit := parseSettings(raw)
	if bad != nil {
		u.log.Error("configuration of the cloud cannot be used", "err", bad)
		return nil
	}
	if unfit != nil {
		u.log.Warn("configuration of the cloud is in force in part", "err", unfit)
	}
	apply, err := u.box.Configure(&s, nil)
	if err != nil {
		u.log.Error("configuration of the cloud cannot be used as a whole", "err", err)
		apply() // what can be, until the broker has sent its own
		return nil
	}
	u.configured(s, apply)
	return nil
}
