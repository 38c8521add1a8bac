//! rkyv's `Archive`, `Serialize` and `Deserialize`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, parse_quote};

use super::{archived_ident, archived_type, part, private, with_param};
use crate::model::{Fields, Model, Shape, Variant};

/// What stands between serializing and resolving a value: the same for each of its fields.
fn resolver() -> Ident {
    format_ident!("__ShmResolver")
}

/// The first byte of an archived enum.
pub fn tag() -> Ident {
    format_ident!("__ShmTag")
}

/// One variant of an archived enum by itself, with the layout that `repr(u8)` gives it.
pub fn variant_struct(variant: &Variant) -> Ident {
    format_ident!("__ShmVariant{}", variant.ident)
}

fn resolver_types(fields: &Fields) -> impl Iterator<Item = TokenStream> {
    fields.list.iter().map(|field| part(field, "Resolver"))
}

/// The types that the implementations need and nobody else sees.
pub fn parts(model: &Model) -> TokenStream {
    let (resolver, tag, ident) = (resolver(), tag(), &model.ident);
    let (generics, clause) = (&model.generics, &model.generics.where_clause);
    let (_, ty_generics, _) = model.generics.split_for_impl();
    match &model.shape {
        Shape::Struct(fields) => {
            let types = resolver_types(fields);
            quote!(pub struct #resolver #generics (#(#types,)*) #clause;)
        }
        Shape::Enum(variants) => {
            let idents: Vec<_> = variants.iter().map(|variant| &variant.ident).collect();
            let resolvers = variants.iter().map(|variant| {
                let (ident, types) = (&variant.ident, resolver_types(&variant.fields));
                quote!(#ident(#(#types,)*))
            });
            let structs = variants.iter().map(|variant| {
                let (name, types) = (
                    variant_struct(variant),
                    variant.fields.list.iter().map(archived_type),
                );
                quote! {
                    #[repr(C)]
                    #[allow(dead_code)]
                    struct #name #generics (
                        #tag,
                        #(#types,)*
                        ::core::marker::PhantomData<fn() -> #ident #ty_generics>,
                    ) #clause;
                }
            });
            quote! {
                pub enum #resolver #generics #clause { #(#resolvers,)* #[allow(dead_code)] __Never(
                    ::core::convert::Infallible, ::core::marker::PhantomData<fn() -> #ident #ty_generics>,
                ) }
                #[repr(u8)]
                #[allow(dead_code)]
                enum #tag { #(#idents,)* }
                #(#structs)*
            }
        }
    }
}

pub fn archive(model: &Model) -> TokenStream {
    let (private, ident, archived, resolver) = (private(), &model.ident, archived_ident(model), resolver());
    let (impl_generics, ty_generics, clause) = model.generics.split_for_impl();
    let copy = copy_optimization(model);
    // A place inside `out`, of this field of what `at` points to.
    let place = |member: TokenStream| {
        quote! {
            // SAFETY: `at` is where `out` is, and this a field of it, so it is aligned, initialised and writable.
            unsafe { #private::rkyv::Place::from_field_unchecked(out, ::core::ptr::addr_of_mut!((*at).#member)) }
        }
    };
    let body = match &model.shape {
        Shape::Struct(fields) => {
            let resolves = fields.list.iter().enumerate().map(|(i, field)| {
                let (ty, member, index) = (&field.ty, &field.member, syn::Index::from(i));
                let place = place(quote!(#member));
                quote_spanned!(field.span=> <#ty as #private::rkyv::Archive>::resolve(&self.#member, resolver.#index, #place);)
            });
            quote! {
                // SAFETY: only fields of it are written, by places of their own.
                let at = unsafe { out.ptr() };
                #(#resolves)*
            }
        }
        Shape::Enum(variants) => {
            let arms = variants
                .iter()
                .map(|variant| resolve_variant(variant, model, &place));
            quote! {
                #[allow(unreachable_patterns)]
                match (self, resolver) {
                    #(#arms)*
                    _ => ::core::unreachable!("resolved with another value's resolver"),
                }
            }
        }
    };
    quote! {
        #[automatically_derived]
        impl #impl_generics #private::rkyv::Archive for #ident #ty_generics #clause {
            type Archived = #archived #ty_generics;
            type Resolver = #resolver #ty_generics;
            #copy

            #[inline]
            #[allow(unused_variables, clippy::unit_arg)]
            fn resolve(&self, resolver: #resolver #ty_generics, out: #private::rkyv::Place<#archived #ty_generics>) {
                #body
            }
        }
    }
}

fn resolve_variant(
    variant: &Variant,
    model: &Model,
    place: &impl Fn(TokenStream) -> TokenStream,
) -> TokenStream {
    let (private, tag, resolver, ident) = (private(), tag(), resolver(), &variant.ident);
    let name_of_type = &model.ident;
    let (_, ty_generics, _) = model.generics.split_for_impl();
    let name = variant_struct(variant);
    let members = variant.fields.list.iter().map(|field| &field.member);
    let values: Vec<_> = (0..variant.fields.list.len())
        .map(|i| format_ident!("__value{i}"))
        .collect();
    let resolvers: Vec<_> = (0..variant.fields.list.len())
        .map(|i| format_ident!("__resolver{i}"))
        .collect();
    let resolves = variant.fields.list.iter().enumerate().map(|(i, field)| {
        let (ty, value, resolver, index) = (&field.ty, &values[i], &resolvers[i], syn::Index::from(i + 1));
        let place = place(quote!(#index));
        quote_spanned!(field.span=> <#ty as #private::rkyv::Archive>::resolve(#value, #resolver, #place);)
    });
    quote! {
        (#name_of_type::#ident { #(#members: #values,)* }, #resolver::#ident(#(#resolvers,)*)) => {
            // SAFETY: an enum of `repr(u8)` is laid out as a union of such structures, one per variant, which
            // start with the tag; the resolver belongs to this variant.
            let out = unsafe { out.cast_unchecked::<#name #ty_generics>() };
            // SAFETY: only fields of it are written, the tag here, the others by places of their own.
            let at = unsafe { out.ptr() };
            // SAFETY: as above; a tag is one initialised byte.
            unsafe { ::core::ptr::addr_of_mut!((*at).0).write(#tag::#ident) };
            #(#resolves)*
        }
    }
}

/// Lists of a structure are copied as they are if its bytes are its archive: no padding, every field in its
/// place and itself such a type.
fn copy_optimization(model: &Model) -> Option<TokenStream> {
    let Shape::Struct(fields) = &model.shape else {
        return None;
    };
    if !model.generics.params.is_empty() {
        return None;
    }
    let (private, ident, archived) = (private(), &model.ident, archived_ident(model));
    let types: Vec<_> = fields.list.iter().map(|field| &field.ty).collect();
    let members: Vec<_> = fields.list.iter().map(|field| &field.member).collect();
    Some(quote! {
        const COPY_OPTIMIZATION: #private::rkyv::traits::CopyOptimization<Self> =
            // SAFETY: true only where the fields fill the type, their own bytes are their archives, and the archived
            // type has each at the same offset.
            unsafe {
                #private::rkyv::traits::CopyOptimization::enable_if(
                    ::core::mem::size_of::<#ident>() == ::core::mem::size_of::<#archived>()
                        && ::core::mem::size_of::<#ident>() == 0 #(+ ::core::mem::size_of::<#types>())*
                        #(
                            && <#types as #private::rkyv::Archive>::COPY_OPTIMIZATION.is_enabled()
                            && ::core::mem::offset_of!(#ident, #members) == ::core::mem::offset_of!(#archived, #members)
                        )*
                )
            };
    })
}

pub fn serialize(model: &Model) -> TokenStream {
    let (private, ident, resolver) = (private(), &model.ident, resolver());
    let mut generics = with_param(
        model,
        parse_quote!(__S),
        vec![
            parse_quote! {
                __S: #private::rkyv::rancor::Fallible + #private::rkyv::ser::Writer + #private::rkyv::ser::Allocator
                    + #private::rkyv::ser::Sharing + ?::core::marker::Sized
            },
            parse_quote!(<__S as #private::rkyv::rancor::Fallible>::Error: #private::rkyv::rancor::Source),
        ],
        |ty| parse_quote!(#ty: #private::rkyv::Serialize<__S>),
    );
    // A `Bulk` goes into an archive of ours only.
    let bulks = model.fields().filter(|field| field.bulk).map(|field| &field.ty);
    let clause = generics.make_where_clause();
    clause
        .predicates
        .extend(bulks.map(|ty| -> syn::WherePredicate { parse_quote!(#ty: #private::rkyv::Serialize<__S>) }));
    let (impl_generics, _, clause) = generics.split_for_impl();
    let (_, ty_generics, _) = model.generics.split_for_impl();
    let arm = |pattern: TokenStream, constructor: TokenStream, fields: &Fields| {
        let members = fields.list.iter().map(|field| &field.member);
        let values: Vec<_> = (0..fields.list.len())
            .map(|i| format_ident!("__value{i}"))
            .collect();
        let types = fields.list.iter().map(|field| &field.ty);
        quote! {
            #pattern { #(#members: #values,)* } => #constructor(
                #(<#types as #private::rkyv::Serialize<__S>>::serialize(#values, serializer)?,)*
            )
        }
    };
    let arms: Vec<TokenStream> = match &model.shape {
        Shape::Struct(fields) => vec![arm(quote!(Self), quote!(#resolver), fields)],
        Shape::Enum(variants) => variants
            .iter()
            .map(|variant| {
                let name = &variant.ident;
                arm(quote!(#ident::#name), quote!(#resolver::#name), &variant.fields)
            })
            .collect(),
    };
    quote! {
        #[automatically_derived]
        impl #impl_generics #private::rkyv::Serialize<__S> for #ident #ty_generics #clause {
            #[inline]
            #[allow(unused_variables)]
            fn serialize(
                &self,
                serializer: &mut __S,
            ) -> ::core::result::Result<#resolver #ty_generics, <__S as #private::rkyv::rancor::Fallible>::Error> {
                ::core::result::Result::Ok(match self { #(#arms,)* })
            }
        }
    }
}

pub fn deserialize(model: &Model) -> TokenStream {
    let (private, ident, archived) = (private(), &model.ident, archived_ident(model));
    let generics = with_param(
        model,
        parse_quote!(__D),
        vec![
            parse_quote!(__D: #private::rkyv::rancor::Fallible + ?::core::marker::Sized),
            parse_quote!(<__D as #private::rkyv::rancor::Fallible>::Error: #private::rkyv::rancor::Source),
        ],
        |ty| {
            parse_quote! {
                <#ty as #private::rkyv::Archive>::Archived: #private::rkyv::Deserialize<#ty, __D>
            }
        },
    );
    let (impl_generics, _, clause) = generics.split_for_impl();
    let (_, ty_generics, _) = model.generics.split_for_impl();
    let arm = |pattern: TokenStream, constructor: TokenStream, fields: &Fields| {
        let members: Vec<_> = fields.list.iter().map(|field| &field.member).collect();
        let values: Vec<_> = (0..fields.list.len())
            .map(|i| format_ident!("__value{i}"))
            .collect();
        let types = fields.list.iter().map(|field| &field.ty);
        let archived = fields.list.iter().map(archived_type);
        quote! {
            #pattern { #(#members: #values,)* } => #constructor {
                #(#members: <#archived as #private::rkyv::Deserialize<#types, __D>>::deserialize(#values, deserializer)?,)*
            }
        }
    };
    let arms: Vec<TokenStream> = match &model.shape {
        Shape::Struct(fields) => vec![arm(quote!(Self), quote!(#ident), fields)],
        Shape::Enum(variants) => variants
            .iter()
            .map(|variant| {
                let variant_ident = &variant.ident;
                arm(
                    quote!(Self::#variant_ident),
                    quote!(#ident::#variant_ident),
                    &variant.fields,
                )
            })
            .collect(),
    };
    quote! {
        #[automatically_derived]
        impl #impl_generics #private::rkyv::Deserialize<#ident #ty_generics, __D> for #archived #ty_generics #clause {
            #[inline]
            #[allow(unused_variables)]
            fn deserialize(
                &self,
                deserializer: &mut __D,
            ) -> ::core::result::Result<#ident #ty_generics, <__D as #private::rkyv::rancor::Fallible>::Error> {
                ::core::result::Result::Ok(match self { #(#arms,)* })
            }
        }
    }
}
