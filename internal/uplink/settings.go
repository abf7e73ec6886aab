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
// those of a terminal, by its serial. Exactly one of the four is set. A JSON
// string is a token's id.
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
// broadcast they cannot change what the known ones mean.
func parseSettings(raw []byte) (Settings, *unreadable) {
	var s struct {
		Settings
		Version *uint64 `json:"version"`
	}
	if !utf8.Valid(raw) {
		return Settings{}, unread("not_json", "not valid UTF-8")
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		code := "bad_config"
		if _, syntax := errors.AsType[*json.SyntaxError](err); syntax {
			code = "not_json"
		}
		return Settings{}, unread(code, "%v", err)
	}
	if s.Version == nil {
		return Settings{}, unread("bad_config", "no version")
	}
	s.Settings.Version = *s.Version
	return s.Settings, nil
}

// config keeps a configuration, if it is newer than the one in force, and then
// puts it in force.
func (d *downlink) config(ctx context.Context, raw []byte) (*unreadable, error) {
	s, bad := parseSettings(raw)
	if bad != nil {
		return bad, nil
	}
	if have := d.u.Status().Config; have != nil && s.Version <= have.Version {
		return nil, nil
	}
	apply, err := d.u.box.Configure(s)
	if err != nil {
		return unread("bad_config", "%v", err), nil
	}
	// Commit point. After a crash before it the broker sends the message again;
	// after it the next start puts it in force.
	if err := d.persist(ctx, "configuration", func() error {
		return d.u.notes.Put(ConfigSpace, map[string][]byte{ConfigKey: raw})
	}); err != nil {
		return nil, err
	}
	d.u.configured(s, apply)
	d.u.log.Info("configuration of the cloud in force", "version", s.Version, "venue", s.VenueStatus, "revoked", len(s.Revoked))
	return nil, nil
}

func (u *Uplink) configured(s Settings, apply func()) {
	apply()
	u.tell(func(st *Status) {
		st.Config = &ConfigMark{Version: s.Version, VenueStatus: s.VenueStatus, At: now()}
	})
}

// recallConfig puts the configuration on disk in force. One that cannot be used
// is as good as none: the broker holds it and sends it at the next connect.
func (u *Uplink) recallConfig() error {
	all, err := u.notes.All(ConfigSpace)
	raw, kept := all[ConfigKey]
	switch {
	case err != nil && all == nil:
		return fmt.Errorf("read configuration of the cloud: %w", err)
	case err != nil:
		u.log.Error("configuration of the cloud cannot be read", "err", err)
		return nil
	case !kept:
		return nil
	}
	s, bad := parseSettings(raw)
	if bad != nil {
		u.log.Error("configuration of the cloud cannot be used", "err", bad)
		return nil
	}
	apply, err := u.box.Configure(s)
	if err != nil {
		u.log.Error("configuration of the cloud cannot be used", "err", err)
		return nil
	}
	u.configured(s, apply)
	return nil
}
