package uplink

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// keyring reads what the box shows a broker: its certificate and its password.
// Both may be renewed on disk under a running box. While a file is half written
// the last one that was whole is used.
type keyring struct {
	cfg *Config

	mu   sync.Mutex
	pair *tls.Certificate // the last one read whole; mu guards it
}

// shown is what a link showed the broker.
type shown struct {
	password [sha256.Size]byte
	token    time.Time // when the token that is the password ends; zero: never
	leaf     [sha256.Size]byte
	expiry   time.Time // when the certificate ends; zero: there is none
}

// read returns what is shown from now on, and the password, which counts only
// with a user name. An error says that a file is of no use now.
func (k *keyring) read() (shown, string, error) {
	var s shown
	var password string
	var failures []error
	if k.cfg.Username != "" {
		var err error
		if password, err = k.cfg.password(); err == nil {
			s.password, s.token = sha256.Sum256([]byte(password)), tokenExpiry(password)
		} else {
			failures = append(failures, fmt.Errorf("%w: %w", errCredentials, err))
		}
	}
	pair, err := k.load()
	if err != nil {
		failures = append(failures, fmt.Errorf("%w: %w", errCertificate, err))
	}
	if pair != nil {
		s.leaf, s.expiry = sha256.Sum256(pair.Leaf.Raw), pair.Leaf.NotAfter
	}
	return s, password, errors.Join(failures...)
}

// load reads the client certificate, nil if there is none. With an error comes
// the last one that was whole, if there is one.
func (k *keyring) load() (*tls.Certificate, error) {
	if k.cfg.CertFile == "" {
		return nil, nil //nolint:nilnil // none is configured
	}
	pair, err := tls.LoadX509KeyPair(k.cfg.CertFile, k.cfg.KeyFile)
	if err == nil && pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		return k.pair, fmt.Errorf("read client certificate: %w", err)
	}
	k.pair = &pair
	return k.pair, nil
}

// tlsConfig is for one connection to a host, judged by the given time. It reads
// the certificates as they are on disk now.
func (k *keyring) tlsConfig(host string, at time.Time) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, Time: func() time.Time { return at }}
	if k.cfg.CAFile != "" {
		pem, err := os.ReadFile(k.cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file %s: no certificate in it", k.cfg.CAFile)
		}
	}
	pair, err := k.load()
	if pair == nil && err != nil {
		return nil, err
	}
	if pair != nil {
		t.Certificates = []tls.Certificate{*pair}
	}
	return t, nil
}

// expired returns an error if the certificate the box shows has ended.
func (k *keyring) expired(now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pair == nil || now.Before(k.pair.Leaf.NotAfter) {
		return nil
	}
	return fmt.Errorf("%w: it ended on %s", errCertificate, k.pair.Leaf.NotAfter.UTC().Format(time.DateTime))
}

// tokenExpiry returns when a JSON Web Token ends, without checking it; zero if
// the password is none, or one that does not end.
func tokenExpiry(password string) time.Time {
	parts := strings.Split(password, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp float64 `json:"exp"`
	}
	if json.Unmarshal(body, &claims) != nil || claims.Exp <= 0 || claims.Exp > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}

// renewAhead is how long before the end of what it showed a link is renewed, if
// there is something newer on disk.
const renewAhead = time.Minute

// renewal compares what a link showed with what is on disk now. Renewed says
// that the link should be made anew; an error that nothing good is there to
// make it with, though what was shown ends.
func (k *keyring) renewal(was shown, now time.Time) (renewed bool, err error) {
	is, _, err := k.read()
	ends := func(at time.Time) bool { return !at.IsZero() && !now.Add(renewAhead).Before(at) }
	better := func(at time.Time) bool { return at.IsZero() || now.Before(at) }
	switch {
	case err != nil:
		return false, err
	case ends(was.expiry) && is.leaf != was.leaf && better(is.expiry) && !is.expiry.Equal(was.expiry):
		return true, nil
	case ends(was.token) && is.password != was.password && better(is.token):
		return true, nil
	case ends(was.expiry) && !now.Before(was.expiry):
		return false, fmt.Errorf("%w: it ended on %s", errCertificate, was.expiry.UTC().Format(time.DateTime))
	case ends(was.token) && !now.Before(was.token):
		return false, fmt.Errorf("%w: the token in the password file ended at %s", errCredentials, was.token.UTC().Format(time.DateTime))
	}
	return false, nil
}

// renew ends a link, in order, when what it showed the broker is about to end
// and something newer is on disk: MQTT 3.1.1 cannot show it on a living link.
// What is wrong with the files is told while the link lives on.
func (u *Uplink) renew(ctx context.Context, l *link) {
	tick := time.NewTicker(u.cfg.renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		renewed, err := u.dialer.keys.renewal(l.shown, u.dialer.now())
		u.warn(err)
		if renewed {
			u.mu.Lock()
			cut := u.cut
			u.mu.Unlock()
			cut(errRenewed)
			return
		}
	}
}

// warn puts into the status what will be wrong once the link is lost.
func (u *Uplink) warn(err error) {
	var w *Failure
	if err != nil {
		w = newFailure(nameOf(err), err)
	}
	told := false
	u.tell(func(st *Status) {
		told = (w == nil) != (st.Warning == nil)
		if w == nil || st.Warning == nil || st.Warning.Text != w.Text {
			st.Warning = w
		}
	})
	if told && w != nil {
		u.log.Warn("the link cannot be made again with what is on disk", "reason", w.Name, "err", err)
	}
}
