package uplink

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// NoProxy as [Config.Proxy] goes without one, whatever the environment says.
const NoProxy = "direct"

// parseProxy reads the setting. The error never tells the URL: it may hold a
// password.
func parseProxy(raw string) (*url.URL, error) {
	if raw == "" || raw == NoProxy {
		return nil, nil //nolint:nilnil // no proxy is no error
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("proxy is not a URL such as http://user:password@proxy.example.com:3128, nor " + NoProxy)
	}
	if u.Port() == "" {
		u.Host += ":80"
	}
	return u, nil
}

// proxyFor returns the proxy on the way to a broker, nil if there is none. What
// is set goes for every broker; the environment's goes for tls and wss
// (HTTPS_PROXY) and ws (HTTP_PROXY), unless NO_PROXY names the broker.
func (c *Config) proxyFor(broker *url.URL) (*url.URL, error) {
	if c.Proxy != "" {
		return parseProxy(c.Proxy)
	}
	web := *broker
	switch broker.Scheme {
	case "tls", "wss":
		web.Scheme = "https"
	case "ws":
		web.Scheme = "http"
	default:
		return nil, nil //nolint:nilnil // plain MQTT is for the LAN
	}
	found, err := httpproxy.FromEnvironment().ProxyFunc()(&web)
	if err != nil || found == nil {
		if err != nil {
			err = fmt.Errorf("%w: the environment names one that is not a URL", errProxy)
		}
		return nil, err
	}
	p, err := parseProxy(found.String())
	if err != nil {
		return nil, fmt.Errorf("%w: of the environment is not http://host:port", errProxy)
	}
	return p, nil
}

// maxProxyAnswer bounds what a proxy may say before the stream begins.
const maxProxyAnswer = 16 << 10

// tunnel asks a proxy for a connection to the target. It closes p on failure.
func tunnel(ctx context.Context, p *pipe, proxy *url.URL, target string) (*pipe, error) {
	stop := context.AfterFunc(ctx, func() { _ = p.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	through, err := askThrough(p, proxy, target)
	if err != nil {
		_ = p.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return through, nil
}

func askThrough(p *pipe, proxy *url.URL, target string) (*pipe, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		req.Header.Set("Proxy-Authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
	}
	if err := req.Write(p); err != nil {
		return nil, err
	}
	r := bufio.NewReader(io.LimitReader(p, maxProxyAnswer))
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("its answer cannot be read: %w", err)
	}
	_ = res.Body.Close() // of a refusal; a tunnel has none
	switch res.StatusCode {
	case http.StatusOK:
		p.early = make([]byte, r.Buffered())
		_, err = io.ReadFull(r, p.early)
		return p, err
	case http.StatusProxyAuthRequired:
		return nil, errors.New("it wants another user name and password (407)")
	}
	return nil, fmt.Errorf("it refuses the way to %s: %d %s", target, res.StatusCode, http.StatusText(res.StatusCode))
}
