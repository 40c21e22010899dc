/* Loaded before a server's own libraries: where it would listen on every address of the machine, it
 * listens on the loopback address. Neither Orthanc nor storescp has a setting for that. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

int bind(int descriptor, const struct sockaddr *address, socklen_t length)
{
    int (*original)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    struct sockaddr_storage local = {0};
    memcpy(&local, address, length < sizeof local ? length : sizeof local);
    struct sockaddr_in *four = (struct sockaddr_in *)&local;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&local;
    if (local.ss_family == AF_INET && four->sin_addr.s_addr == htonl(INADDR_ANY))
        four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (local.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr))
        six->sin6_addr = in6addr_loopback;
    return original(descriptor, (struct sockaddr *)&local, length);
}
