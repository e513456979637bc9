// Package servers holds what the protocol servers share: the errno table and listeners.
package servers
