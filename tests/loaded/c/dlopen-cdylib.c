#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/socket.h>
#include <stdlib.h>
#include <pthread.h>
#include <semaphore.h>
static sem_t sem;
static void *post(void *none){ usleep(200000); sem_post(&sem); return none; }
int main(int c, char**v){ void*h=dlopen(v[1],RTLD_NOW|(c>3?RTLD_GLOBAL:RTLD_LOCAL)); if(!h){puts(dlerror());return 1;} int(*g)(int)=dlsym(h,"go"); int went=g(atoi(v[2])); printf("go %d\n", went); if(went>=0){ int(*w)(sem_t*)=dlsym(h,"wait_for"); pthread_t t; sem_init(&sem,0,0); pthread_create(&t,0,post,0); printf("waited %d\n", w(&sem)); pthread_join(t,0); } char b[4]; int p[2]; socketpair(AF_UNIX,SOCK_STREAM,0,p); write(p[1],"abc",3); printf("read %zd\n", read(p[0],b,3)); printf("dlclose %d\n", dlclose(h)); if (dlopen(v[1], RTLD_NOW | RTLD_NOLOAD)) puts("stays"); puts("end"); return 0; }
