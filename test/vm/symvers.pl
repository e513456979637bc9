#!/usr/bin/perl
# Prints the Module.symvers of a user-mode Linux kernel, argument 1, from the symbols that the binary
# exports: Debian's package has none, and the configure script of OpenZFS asks it what there is.
use strict;
use warnings;
my $path = shift // die "usage: symvers.pl KERNEL\n";
open my $file, '<:raw', $path or die "$path: $!\n";
my $image = do { local $/; <$file> };
my %section;
for (`readelf -SW '$path'`) {
	next unless /^\s*\[\s*\d+\]\s+(\S+)\s+\S+\s+([0-9a-f]+)\s+([0-9a-f]+)\s+([0-9a-f]+)/;
	$section{$1} = { address => hex $2, offset => hex $3, size => hex $4 };
}
# text ADDRESS: the string that the kernel has there.
sub text {
	my $at = shift or return '';
	for my $s (values %section) {
		next unless $s->{address} && $at >= $s->{address} && $at < $s->{address} + $s->{size};
		return unpack 'Z*', substr $image, $s->{offset} + $at - $s->{address}, 256;
	}
	return '';
}
my %kinds = (__ksymtab => 'EXPORT_SYMBOL', __ksymtab_gpl => 'EXPORT_SYMBOL_GPL');
for my $name (sort keys %kinds) {
	my $s = $section{$name} or next;
	for (my $i = 0; $i < $s->{size}; $i += 24) {    # struct kernel_symbol: value, name, namespace
		my (undef, $symbol, $space) = unpack 'QQQ', substr $image, $s->{offset} + $i, 24;
		print join("\t", '0x00000000', text($symbol), 'vmlinux', $kinds{$name}, text($space)), "\n";
	}
}
