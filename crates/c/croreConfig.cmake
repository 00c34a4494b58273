# find_package(crore): the targets crore::crore (shared) and crore::static.
get_filename_component(_crore_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_package(Threads REQUIRED)
foreach(_crore crore static)
    if(NOT TARGET crore::${_crore})
        if(_crore STREQUAL "crore")
            add_library(crore::crore SHARED IMPORTED)
            set(_crore_file libcrore.so)
        else()
            add_library(crore::static STATIC IMPORTED)
            set(_crore_file libcrore.a)
        endif()
        set_target_properties(crore::${_crore} PROPERTIES
            IMPORTED_LOCATION "${_crore_prefix}/lib/${_crore_file}"
            INTERFACE_INCLUDE_DIRECTORIES "${_crore_prefix}/include")
    endif()
endforeach()
set_property(TARGET crore::static PROPERTY
    INTERFACE_LINK_LIBRARIES Threads::Threads gcc_s ${CMAKE_DL_LIBS} m)
